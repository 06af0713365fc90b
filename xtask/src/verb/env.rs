//! `env`: what every variable is, where its value comes from, and who reads it.

use camino::Utf8Path;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use stelae_model::env::declared::REGISTRY;
use stelae_model::env::programs::{declared, matrix};
use stelae_model::env::{Origin, Resolved, SetBy, nearest};
use stelae_model::terminal::{Lines, shown};
use stelae_model::{ExitCode, Failure};
use stelae_run::bundle::seed_discovery;
use stelae_run::environment::ENV_FILE;
use stelae_run::files;
use stelae_run::render::Home;

use crate::context::Context;
use crate::verb::Outcome;

/// The verbs under `env`.
#[derive(Debug, Subcommand)]
pub(crate) enum Env {
    /// Writes what is missing: an env file with every variable in it, and the stack's folders
    Init(Init),
    /// Shows every variable: value, type, layer, file and line; secrets masked
    Show(Show),
    /// Says where the value of one variable comes from, and who reads it
    Explain(Explain),
    /// Shows which program reads which variable
    Matrix(Matrix),
}

impl Env {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Init(verb) => verb.run(context),
            Self::Show(verb) => verb.run(context),
            Self::Explain(verb) => verb.run(context),
            Self::Matrix(verb) => verb.run(context),
        }
    }
}

/// `env init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Shows what would be written, and writes nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct InitAction {
    path: String,
    action: &'static str,
}

impl Init {
    fn run(self, context: &Context) -> Outcome {
        let environment = context.environment()?;
        let mut actions = Vec::new();
        let env_file = context.root().join(ENV_FILE);
        actions.push(InitAction {
            action: if env_file.exists() { "keep" } else { "write" },
            path: env_file.to_string(),
        });
        for name in ["STELAE_CONFIG_HOME", "STELAE_STATE_HOME", "STELAE_SUPERVISOR_HOME"] {
            let folder = environment.text(name).unwrap_or_default().to_owned();
            let action = if std::path::Path::new(&folder).is_dir() { "keep" } else { "create" };
            actions.push(InitAction { path: folder, action });
        }
        let home = Home::from_environment(&environment)?;
        let discovery = home.discovery();
        actions.push(InitAction {
            action: if discovery.exists() { "keep" } else { "seed" },
            path: discovery.to_string(),
        });
        // The plan comes first, also when it is carried out right away.
        context.printer.data(&json!({"schema": 1, "dry_run": self.dry_run, "plan": actions}), || {
            actions.iter().map(|action| format!("{:<7} {}", action.action, action.path)).collect()
        });
        if !self.dry_run {
            for action in &actions {
                carry_out(action, &home)?;
            }
        }
        Ok(ExitCode::Pass)
    }
}

fn carry_out(action: &InitAction, home: &Home) -> Result<(), Failure> {
    let result = match action.action {
        "seed" => return seed_discovery(home).map(drop),
        "write" => {
            // A file that appeared since the plan was made is somebody's, and stays.
            files::create_whole(Utf8Path::new(&action.path), env_file_text().as_bytes())
        }
        "create" => files::create_private_dirs(Utf8Path::new(&action.path)),
        _ => Ok(()),
    };
    result.map_err(|error| {
        Failure::new(ExitCode::Environment, "env-init", format!("cannot {} what is missing", action.action))
            .on(action.path.clone())
            .because(error.to_string())
            .hint("choose another folder: --set STELAE_CONFIG_HOME=PATH --set STELAE_STATE_HOME=PATH")
    })
}

/// Every variable that a file may set, commented out, with its type and fallbacks.
fn env_file_text() -> String {
    let mut text = String::from(
        "# Variables of this stack. Uncomment a line to set it; `cargo xtask env show` says what is in force.\n\
         # Parsed, never executed: NAME=value, NAME='literal', NAME=\"with ${OTHER}\".\n",
    );
    for declared in REGISTRY.iter().filter(|declared| declared.set_by == SetBy::Anyone) {
        let fallback = declared.fallbacks.last().copied().unwrap_or_default();
        text += &format!("\n# {} ({})\n#{}={fallback}\n", declared.doc, declared.type_name, declared.name);
    }
    text
}

/// `env show`
#[derive(Debug, Args)]
pub(crate) struct Show {}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    value: Option<String>,
    r#type: &'a str,
    secret: bool,
    origin: &'a Origin,
}

impl Show {
    fn run(self, context: &Context) -> Outcome {
        let environment = context.environment()?;
        let rows: Vec<_> = environment.iter().map(row).collect();
        context.printer.data(&json!({"schema": 1, "variables": rows}), || {
            let line = |row: &Row<'_>| {
                let value = row.value.as_deref().unwrap_or("(unset)");
                // Before it is filled up to the column's width.
                let value = shown(value);
                format!("{:<22} {:<44} {:<16} {}", row.name, value, row.r#type, origin_words(row.origin))
            };
            rows.iter().map(line).collect()
        });
        Ok(ExitCode::Pass)
    }
}

fn row(resolved: &Resolved) -> Row<'_> {
    Row {
        name: resolved.declared.name,
        value: resolved.shown(),
        r#type: resolved.declared.type_name,
        secret: resolved.declared.secret,
        origin: &resolved.origin,
    }
}

fn origin_words(origin: &Origin) -> String {
    let layer = origin.layer.words();
    match (&origin.place, &origin.made_from) {
        (Some(place), _) => format!("{layer}, {place}"),
        (None, Some(text)) => format!("{layer}, from {text}"),
        (None, None) => layer.to_owned(),
    }
}

/// `env explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Name of the variable
    variable: String,
}

impl Explain {
    fn run(self, context: &Context) -> Outcome {
        let Some(declared) = declared(&self.variable) else { return Err(unknown(&self.variable)) };
        let environment = context.environment()?;
        let resolved = environment
            .resolved(declared.name)
            .ok_or_else(|| Failure::unexpected(format!("{} was not resolved", declared.name)))?;
        let readers: Vec<_> =
            matrix().iter().filter(|row| row.variables.contains(&declared)).map(|row| row.program).collect();
        let json = json!({
            "schema": 1, "variable": row(resolved), "doc": declared.doc, "set_by": declared.set_by.words(),
            "fallbacks": declared.fallbacks, "overridden": resolved.overridden, "read_by": readers,
            "not_taken": environment.not_taken(declared.name),
        });
        context.printer.data(&json, || {
            let value = resolved.shown();
            let mut lines: Lines = [
                format!("{} = {}", declared.name, value.as_deref().unwrap_or("(unset)")),
                format!("  {}", declared.doc),
                format!("  type: {}", declared.type_name),
                format!("  set by: {}", declared.set_by.words()),
                format!("  value from: {}", origin_words(&resolved.origin)),
            ]
            .iter()
            .collect();
            if environment.not_taken(declared.name) {
                lines.push("  not taken: the calling process has one, and only the harness sets it");
            }
            let weaker = resolved.overridden.iter();
            lines.extend(weaker.map(|weaker| format!("  overrides: {}", origin_words(weaker))));
            if !declared.fallbacks.is_empty() {
                lines.push(format!("  when it is not set: {}", declared.fallbacks.join(", then ")));
            }
            let readers =
                if readers.is_empty() { "no program directly".to_owned() } else { readers.join(", ") };
            lines.push(format!("  read by: {readers}"));
            lines
        });
        Ok(ExitCode::Pass)
    }
}

fn unknown(name: &str) -> Failure {
    let failure = Failure::new(
        ExitCode::Environment,
        "unknown-variable",
        format!("{name} is not a variable of this stack"),
    );
    match nearest(name, REGISTRY.iter().map(|declared| declared.name)) {
        Some(near) => failure.hint(format!("cargo xtask env explain {near}")),
        None => failure.hint("cargo xtask env show lists what there is"),
    }
}

/// `env matrix`
#[derive(Debug, Args)]
pub(crate) struct Matrix {}

impl Matrix {
    fn run(self, context: &Context) -> Outcome {
        let rows = matrix();
        let json: Vec<_> = rows
            .iter()
            .map(|row| {
                let names: Vec<_> = row.variables.iter().map(|declared| declared.name).collect();
                json!({"program": row.program, "reads": names})
            })
            .collect();
        context.printer.data(&json!({"schema": 1, "programs": json}), || {
            let programs = rows.iter().map(|row| format!("{:>9}", row.program)).collect::<String>();
            let mut lines = Lines::one(format!("{:<24}{programs}", ""));
            for declared in REGISTRY {
                let cell = |reads| format!("{:>9}", if reads { "x" } else { "." });
                let cells: String = rows.iter().map(|row| cell(row.variables.contains(declared))).collect();
                lines.push(format!("{:<24}{cells}", declared.name));
            }
            lines
        });
        Ok(ExitCode::Pass)
    }
}
