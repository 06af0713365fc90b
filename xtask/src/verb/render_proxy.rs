//! `render-proxy`: the template, the installed bundles and the overlay become `proxy.json`.

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use serde_json::json;
use stelae_model::ExitCode;
use stelae_model::render::Syntax;
use stelae_model::terminal::Lines;
use stelae_run::render::{Home, Rendered, Written, check, diff, render_and_write, render_proxy};

use crate::context::{Context, absolute};
use crate::verb::Outcome;

/// `render-proxy`
#[derive(Debug, Args)]
pub(crate) struct RenderProxy {
    /// Template to render [default: config/proxy.template.json in the root]
    #[arg(long, value_name = "PATH")]
    template: Option<Utf8PathBuf>,
    /// Overlay to merge in (JSON Merge Patch) [default: proxy.overlay.json in the config home, if there is one]
    #[arg(long, value_name = "PATH")]
    overlay: Option<Utf8PathBuf>,
    /// File to write, in the config or state home [default: proxy.json in the config home]
    #[arg(long, value_name = "PATH")]
    output: Option<Utf8PathBuf>,
    /// How names are written in template and overlay
    #[arg(long, value_enum, default_value_t = Delimiters::Angles)]
    syntax: Delimiters,
    /// Writes nothing; exits 50 when the file is not what it should be
    #[arg(long)]
    check: bool,
    /// Writes nothing; shows how the file differs from what it should be
    #[arg(long)]
    diff: bool,
}

/// The choices of `--syntax`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Delimiters {
    /// `<<NAME>>`
    Angles,
    /// `{{NAME}}`: templates of the old stack
    Braces,
}

impl RenderProxy {
    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let (only_check, only_diff) = (self.check, self.diff);
        let mut home = Home::from_environment(&context.environment()?)?;
        home.syntax = match self.syntax {
            Delimiters::Angles => Syntax::Angles,
            Delimiters::Braces => Syntax::Braces,
        };
        if let Some(path) = &self.template {
            home.template = absolute(path)?;
        }
        home.overlay = self.overlay.as_deref().map(absolute).transpose()?;
        if let Some(path) = &self.output {
            home.output = absolute(path)?;
        }
        if only_check || only_diff {
            return look(context, &render_proxy(&home)?, only_check);
        }
        let (rendered, written) = render_and_write(&home)?;
        let word = match written {
            Written::Created | Written::Replaced => "rendered",
            Written::Unchanged => "up to date",
        };
        let mut json = described(&rendered);
        json["written"] = json!(written);
        let servers = match rendered.config.mcp_servers.len() {
            1 => "1 server".to_owned(),
            count => format!("{count} servers"),
        };
        context.printer.data(&json, || Lines::one(format!("{word}: {} ({servers})", rendered.path)));
        Ok(ExitCode::Pass)
    }
}

/// `--check` and `--diff`: the difference is data, and with `--check` a failure that carries it.
fn look(context: &Context, rendered: &Rendered, only_check: bool) -> Outcome {
    if only_check {
        check(rendered)?;
    }
    let difference = diff(rendered)?;
    let mut json = described(rendered);
    json["diff"] = json!(difference);
    context.printer.data(&json, || Lines::block("", &difference));
    Ok(ExitCode::Pass)
}

fn described(rendered: &Rendered) -> serde_json::Value {
    let servers: Vec<_> = rendered.config.mcp_servers.keys().collect();
    json!({"schema": 1, "path": rendered.path, "sources": rendered.sources, "servers": servers})
}
