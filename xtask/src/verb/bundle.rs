//! `bundle`: installs, lists, compares and removes bundles of MCP servers.

use camino::Utf8Path;
use clap::{Args, Subcommand};
use serde_json::json;
use stelae_model::bundle::{Action, BundleStatus, Edits, Plan, ServerState};
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure};
use stelae_run::bundle::{self, Apply, Event, Request};
use stelae_run::render::Home;

use crate::context::{Context, absolute};
use crate::print::Printer;
use crate::verb::Outcome;

/// The verbs under `bundle`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Installs a bundle, or some of its servers, into the config home: all of it or nothing
    Install(Install),
    /// Lists the bundles that can be installed, and those that are
    List(List),
    /// Shows how every server stands: up to date, outdated, edited, missing, foreign
    Status(Status),
    /// Removes an installed bundle, or some of its servers
    Remove(Remove),
}

impl Bundle {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let home = Home::from_environment(&context.environment()?)?;
        match self {
            Self::Install(verb) => verb.run(context, &home),
            Self::List(verb) => verb.run(context, &home),
            Self::Status(verb) => verb.run(context, &home),
            Self::Remove(verb) => verb.run(context, &home),
        }
    }
}

/// What installing and removing have in common.
#[derive(Debug, Args)]
struct Change {
    /// Only this server; can be given more than once
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<String>,
    /// Shows what would happen, and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Also where a file was edited since it was installed: the edit is lost
    #[arg(long)]
    force: bool,
}

impl Change {
    fn request(&self) -> Request<'_> {
        Request {
            servers: &self.servers,
            edits: if self.force { Edits::Overwrite } else { Edits::Keep },
            apply: if self.dry_run { Apply::DryRun } else { Apply::Commit },
        }
    }

    fn report(&self, printer: &Printer, outcome: Result<bundle::Outcome, Failure>) -> Outcome {
        let bundle::Outcome { plan, changed } = outcome?;
        let json = json!({"schema": 1, "dry_run": self.dry_run, "changed": changed, "plan": plan});
        printer.data(&json, || if self.dry_run { planned(&plan) } else { summary(&plan) });
        Ok(ExitCode::Pass)
    }
}

/// `bundle install`
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Name of a bundle in config/bundles, or the path of a bundle's folder
    #[arg(value_name = "NAME|PATH")]
    bundle: String,
    #[command(flatten)]
    change: Change,
}

impl Install {
    fn run(self, context: &Context, home: &Home) -> Outcome {
        let is_path = self.bundle.contains('/') || self.bundle == ".";
        let bundle = if is_path {
            bundle::load_bundle(&absolute(Utf8Path::new(&self.bundle))?)?
        } else {
            bundle::find_bundle(home, &self.bundle)?
        };
        let printer = &context.printer;
        let name = bundle.manifest.name.clone();
        let mut tell = |event: Event<'_>| tell(printer, &name, self.change.dry_run, event);
        self.change.report(printer, bundle::install(home, &bundle, self.change.request(), &mut tell))
    }
}

/// `bundle remove`
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// Name of the installed bundle
    bundle: String,
    #[command(flatten)]
    change: Change,
}

impl Remove {
    fn run(self, context: &Context, home: &Home) -> Outcome {
        let printer = &context.printer;
        let mut tell = |event: Event<'_>| tell(printer, &self.bundle, self.change.dry_run, event);
        self.change.report(printer, bundle::remove(home, &self.bundle, self.change.request(), &mut tell))
    }
}

/// The live lines: the plan before anything is touched, then each server as it is dealt with.
fn tell(printer: &Printer, bundle: &str, dry_run: bool, event: Event<'_>) {
    match event {
        Event::Planned(plan) => {
            for server in &plan.servers {
                printer.talk(&format!("plan: {} {bundle}/{}", server.action.word(), server.server));
                if let Some(diff) = &server.diff {
                    printer.show(&Lines::block("", diff.trim_end()));
                }
            }
        }
        Event::Server(server) if !dry_run => {
            printer.talk(&format!("{bundle}/{}: {}", server.server, server.action.done()));
        }
        Event::Server(_) | Event::Committed => {}
    }
}

fn planned(plan: &Plan) -> Lines {
    let line = |server: &stelae_model::bundle::ServerPlan| {
        format!("{:<10} {}/{}", server.action.word(), plan.bundle, server.server)
    };
    plan.servers.iter().map(line).collect()
}

/// `core: 1 installed, 2 up to date`
fn summary(plan: &Plan) -> Lines {
    let kinds =
        [Action::Add, Action::Update, Action::Overwrite, Action::Remove, Action::UpToDate].map(|action| {
            let count = plan.servers.iter().filter(|server| server.action == action).count();
            (count > 0).then(|| format!("{count} {}", action.done()))
        });
    let told: Vec<_> = kinds.into_iter().flatten().collect();
    Lines::one(format!("{}: {}", plan.bundle, told.join(", ")))
}

/// `bundle list`
#[derive(Debug, Args)]
pub(crate) struct List {}

impl List {
    fn run(self, context: &Context, home: &Home) -> Outcome {
        let bundles = bundle::list(home)?;
        context.printer.data(&json!({"schema": 1, "bundles": bundles}), || {
            let line = |bundle: &BundleStatus| {
                let installed = match &bundle.installed {
                    Some(version) => format!("installed {version}"),
                    None => "not installed".to_owned(),
                };
                let about = bundle.description.as_deref().unwrap_or("(only the installed copy is left)");
                format!("{:<16} {installed:<20} {about}", bundle.bundle)
            };
            bundles.iter().map(line).collect()
        });
        Ok(ExitCode::Pass)
    }
}

/// `bundle status`
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Only this bundle
    bundle: Option<String>,
}

impl Status {
    fn run(self, context: &Context, home: &Home) -> Outcome {
        let bundles = match &self.bundle {
            Some(name) => vec![bundle::status(home, name)?],
            None => bundle::list(home)?,
        };
        context.printer.data(&json!({"schema": 1, "bundles": bundles}), || {
            let servers = |bundle: &BundleStatus| -> Vec<String> {
                let line = |server: &stelae_model::bundle::ServerStatus| {
                    format!("{:<14} {}/{}", words(server.state), bundle.bundle, server.server)
                };
                let foreign =
                    bundle.foreign.iter().map(|file| format!("{:<14} {}/{file}", "foreign", bundle.bundle));
                bundle.servers.iter().map(line).chain(foreign).collect()
            };
            bundles.iter().flat_map(servers).collect()
        });
        Ok(ExitCode::Pass)
    }
}

const fn words(state: ServerState) -> &'static str {
    match state {
        ServerState::Available => "not installed",
        ServerState::UpToDate => "up to date",
        ServerState::Outdated => "outdated",
        ServerState::Edited => "edited",
        ServerState::Missing => "missing",
        ServerState::Orphaned => "orphaned",
        ServerState::Foreign => "foreign",
    }
}
