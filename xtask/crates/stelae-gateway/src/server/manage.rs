//! `manage_stelae`: installs and removes servers of the very stack that this server is part of.

use rmcp::model::{JsonObject, Tool, ToolAnnotations, object};
use serde::Deserialize;
use serde_json::json;
use stelae_model::Failure;
use stelae_model::proxy::{ServerState, is_plain_name};
use stelae_model::server_name;
use stelae_run::bundle::Report;

use super::bundles::{self, Edit};
use super::reload::reload;
use super::{Answer, Told, arguments};

/// The tool's name.
pub(super) const NAME: &str = "manage_stelae";

const LIST: &str = "list_discovered_servers";
const INSTALL: &str = "install_server";
const REMOVE: &str = "remove_server";
const OPERATIONS: &[&str] = &[LIST, INSTALL, REMOVE];
const PARAMS: &[&str] = &["name", "target_name", "dry_run", "force"];

#[derive(Deserialize)]
struct Request {
    operation: String,
    #[serde(default)]
    params: JsonObject,
}

#[derive(Deserialize)]
struct Params {
    name: Option<String>,
    target_name: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    force: bool,
}

/// The tool as it is listed.
pub(super) fn tool() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": {
            "operation": {"type": "string", "enum": OPERATIONS},
            "params": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "description": "install_server: the discovered server; remove_server: the installed one"},
                    "target_name": {"type": "string", "description": "install_server: the name to install it under (default: its own)"},
                    "dry_run": {"type": "boolean", "default": false, "description": "Only say what would be done"},
                    "force": {"type": "boolean", "default": false, "description": "Also overwrite or remove what a person changed"},
                },
                "additionalProperties": false,
            },
        },
        "required": ["operation"],
        "additionalProperties": false,
    });
    let annotations = ToolAnnotations::with_title("Manage the stack's servers")
        .read_only(false)
        .destructive(true)
        .idempotent(true)
        .open_world(false);
    let description = "Lists the servers that could be installed, installs one, or removes one; the stack serves the change at once";
    Tool::new(NAME, description, object(schema)).with_annotations(annotations)
}

/// Carries a call out.
pub(super) async fn call(given: JsonObject) -> Told {
    let request: Request = arguments::read(given, &["operation", "params"])?;
    let operation = arguments::one_of("operation", &request.operation, OPERATIONS)?;
    let known = if operation == LIST { &[][..] } else { PARAMS };
    let params: Params =
        arguments::read(request.params, known).map_err(|why| format!("{operation}: {why}"))?;
    match operation {
        LIST => list().await,
        INSTALL => {
            let (edit, report) = params.edit(operation)?.carry_out(operation, bundles::install).await?;
            serve(&edit, report).await
        }
        _ => {
            let (edit, report) = params.edit(operation)?.carry_out(operation, bundles::remove).await?;
            stop_serving(&edit, report).await
        }
    }
}

impl Edit {
    async fn carry_out(
        self,
        operation: &str,
        work: fn(&Self) -> Result<Report, Failure>,
    ) -> Result<(Self, Report), String> {
        let told = format!("{operation} {}", self.target);
        let done = blocking(move || work(&self).map(|report| (self, report))).await;
        done.map_err(|why| format!("{told}: {why}"))
    }
}

impl Params {
    fn edit(self, operation: &str) -> Result<Edit, String> {
        // An installed server is called by its target name, so a removal takes either of the two.
        let stand_in = if operation == REMOVE { self.target_name.clone() } else { None };
        let name = self.name.or(stand_in).ok_or_else(|| format!("{operation}: `name` is missing"))?;
        let target = self.target_name.unwrap_or_else(|| name.clone());
        for given in [&name, &target] {
            // What an earlier version has installed can be removed, whatever it is called.
            if operation == REMOVE && is_plain_name(given) {
                continue;
            }
            server_name::check(given).map_err(|why| format!("{operation}: {why}"))?;
        }
        Ok(Edit { name, target, dry_run: self.dry_run, force: self.force })
    }
}

async fn list() -> Told {
    let servers = blocking(bundles::discovered).await?;
    let lines: Vec<_> =
        servers.iter().map(|server| format!("{}: {}", server.name, server.description)).collect();
    let text = if lines.is_empty() { "no servers are discovered".to_owned() } else { lines.join("\n") };
    Ok(Answer { text, data: Some(json!({"servers": servers})) })
}

/// After an installation: the gateway starts the server, and it is only installed when it is ready.
async fn serve(edit: &Edit, report: Report) -> Told {
    let target = &edit.target;
    if edit.dry_run {
        return Ok(tried(&report));
    }
    let readiness = reload().await.map_err(|why| format!("{target} was installed, but {why}"))?;
    let Some(health) = readiness.servers.get(target) else {
        return Err(format!("{target} was installed, but is not among the servers of the gateway"));
    };
    if health.state != ServerState::Ready {
        let reason = health.reason.as_deref().unwrap_or("it is still starting");
        return Err(format!("{target} was installed, but is not ready: {reason}"));
    }
    let text = format!("{}\n{target} is ready, {} tools", lines(&report).join("\n"), health.tools);
    Ok(Answer { text, data: Some(json!({"report": report, "server": health})) })
}

/// After a removal: the gateway must not have the server any more.
async fn stop_serving(edit: &Edit, report: Report) -> Told {
    let target = &edit.target;
    if edit.dry_run {
        return Ok(tried(&report));
    }
    let readiness = reload().await.map_err(|why| format!("{target} was removed, but {why}"))?;
    if readiness.servers.contains_key(target) {
        return Err(format!("{target} was removed, but the gateway still has a server of that name"));
    }
    Ok(Answer { text: lines(&report).join("\n"), data: Some(json!({"report": report})) })
}

fn tried(report: &Report) -> Answer {
    let plan =
        report.plan.servers.iter().map(|server| format!("would {} {}", server.action.word(), server.server));
    Answer { text: plan.collect::<Vec<_>>().join("\n"), data: Some(json!({"report": report})) }
}

fn lines(report: &Report) -> Vec<String> {
    report.plan.servers.iter().map(|server| format!("{}: {}", server.server, server.action.done())).collect()
}

/// Edits files on a thread where that may take its time.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| format!("the tool broke off: {error}"))?.map_err(|failure| failure.to_string())
}
