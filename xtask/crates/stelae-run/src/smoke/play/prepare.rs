//! What is started for a stage: script, prompt, home, invocation.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use stelae_model::agent::{Agent, Model, Reached, SERVER, read_settings};
use stelae_model::catalog::Catalog;
use stelae_model::env::declared::STELAE_MCP_TOKEN;
use stelae_model::env::programs::AGENT;
use stelae_model::env::{AgentEnv, Base, Environment, Invocation, ProgramEnv as _};
use stelae_model::expect::{EXAMPLE_NONCE, NONCE, Stage};
use stelae_model::render::{Names, Source, Syntax, resolve_text_alone};
use stelae_model::{ExitCode, Failure};

use super::papers::Papers;
use crate::agents::{AgentHome, AgentProgram, CliStart, Held, ScriptedModel, described, held};
use crate::files;
use crate::smoke::context::SmokeContext;
use crate::smoke::state::Restarted;
use crate::smoke::workspace::AGENT_HOMES;

/// From the moment when the builtin agent gives up until it has said so.
const SAYING_WHY: Duration = Duration::from_secs(1);

/// What is started.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The agent, with whatever is around it.
    pub(super) invocation: Invocation,
    /// What a person, or a model of its own, is told to do.
    pub(super) prompt: String,
    /// Its home, for as long as it plays.
    pub(super) home: Option<AgentHome>,
}

/// That every prompt can be filled in. Found out before anything is built.
///
/// # Errors
/// Exit 21, with its place in the prompt.
pub(crate) fn check_prompts(stages: &[Stage], host: &Environment) -> Result<(), Failure> {
    stages
        .iter()
        .try_for_each(|stage| prompt(stage, host, "http://127.0.0.1:9090/mcp", EXAMPLE_NONCE).map(drop))
}

/// That the settings of an agent CLI can be filled in. Found out before anything is built.
///
/// # Errors
/// Exit 20, `agents-config`; 21 for a name that there is not, with its place.
pub(crate) fn check_settings(agent: Agent, model: Model, place: &str, text: &str) -> Result<(), Failure> {
    // Whatever they will be: they are texts.
    let names = names("x", "x", "x", "x");
    let servers = BTreeMap::from([(SERVER.to_owned(), "x".to_owned())]);
    let reached = Reached { servers, token: true, model };
    let filled = read_settings(agent, place, text, &names, &reached)?;
    filled.file(agent).map(drop)
}

/// What the settings are filled in with, besides what [`read_settings`] knows.
fn names(prompt: &str, repo: &str, home: &str, model_url: &str) -> Names {
    Names::new([
        ("PROMPT", Some(prompt)),
        ("REPO", Some(repo)),
        ("AGENT_HOME", Some(home)),
        ("MODEL_URL", Some(model_url)),
    ])
}

/// The prompt of a stage.
pub(super) fn prompt(
    stage: &Stage,
    environment: &Environment,
    url: &str,
    nonce: &str,
) -> Result<String, Failure> {
    let source = Source::new(format!("config/smoke.toml: prompt of stage {}", stage.name), &stage.prompt);
    let names = Names::from(environment).with("MCP_URL", url).with(NONCE, nonce);
    resolve_text_alone(&source, &names, Syntax::Braces)
}

/// Prepares a stage; nothing is started. `gate` is where the agent is held until it was looked at; one that a person starts is
/// not.
pub(super) fn prepare(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    catalog: &Catalog,
    papers: &Papers,
    gate: Option<&Utf8Path>,
) -> Result<Prepared, Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let prompt = prompt(stage, &inside, &restarted.endpoints.url, restarted.nonce())?;
    cx.keep(&papers.named("prompt.txt"), format!("{prompt}\n").as_bytes());
    let program = match cx.plan.agent {
        Agent::Builtin => None,
        agent => Some(
            cx.plan
                .agent_program
                .as_ref()
                .ok_or_else(|| Failure::unexpected(format!("the plan has {agent}, and no program of it")))?,
        ),
    };
    write_script(stage, program.map(|_| catalog), papers)?;
    match program {
        None => {
            let invocation = builtin(cx, restarted, papers, &inside, gate)?;
            Ok(Prepared { invocation, prompt, home: None })
        }
        Some(program) => cli(cx, stage, restarted, papers, &inside, program, prompt, gate),
    }
}

/// What is played: the calls of the stage, with the server of each where an agent knows more than one.
fn write_script(stage: &Stage, catalog: Option<&Catalog>, papers: &Papers) -> Result<(), Failure> {
    let call = |call: &stelae_model::expect::ExpectedCall| {
        let mut script = json!({"tool": call.tool, "arguments": call.arguments});
        let found = catalog.and_then(|catalog| catalog.find(&call.tool).ok());
        if let Some((server, tool)) = found.and_then(|found| Some((found.server?, found.tool))) {
            script["server"] = json!(server);
            script["tool"] = json!(tool);
        }
        script
    };
    let calls: Vec<Value> = stage.calls.iter().map(call).collect();
    let mut script = json!({"calls": calls, "message": "done"});
    if catalog.is_some() {
        script["server"] = json!(SERVER);
        if let Some(misbehave) = stage.misbehave {
            script["misbehave"] = json!(misbehave);
        }
    }
    let path = &papers.script;
    files::replace(path, format!("{script}\n").as_bytes(), files::Readable::ByOwner).map_err(|error| {
        Failure::new(ExitCode::StepFailed, "script-unwritable", "the agent's script cannot be written")
            .on(path.to_string())
            .because(error.to_string())
    })
}

fn builtin(
    cx: &SmokeContext,
    restarted: &Restarted,
    papers: &Papers,
    inside: &Environment,
    gate: Option<&Utf8Path>,
) -> Result<Invocation, Failure> {
    let (base, env) = (Base::from_environment(inside)?, AgentEnv::from_environment(inside)?);
    let program = cx.sandbox.bin_dir().join("stelae-gateway");
    // It has to be over a little sooner than we are: then its transcript says which call did not come back.
    let left = cx.deadline.remaining();
    let deadline_ms = left.saturating_sub(SAYING_WHY).max(left / 2).as_millis().max(1).to_string();
    let held = gate.map(|gate| held(gate, &program)).unwrap_or_default();
    let agent = AGENT.invoke(program, cx.sandbox.repo(), &base, &env).args(held).args(["agent"]);
    let reached = restarted.endpoints.each().into_iter().flat_map(|(server, url)| match server {
        None => ["--url".to_owned(), url.to_owned()],
        Some(server) => ["--server-url".to_owned(), format!("{server}={url}")],
    });
    Ok(agent.args(reached).args(["--script", papers.script.as_str(), "--deadline-ms", &deadline_ms]))
}

#[expect(clippy::too_many_arguments, reason = "all of it is what a stage is played with")]
fn cli(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    papers: &Papers,
    inside: &Environment,
    program: &AgentProgram,
    prompt: String,
    gate: Option<&Utf8Path>,
) -> Result<Prepared, Failure> {
    let (agent, model) = (cx.plan.agent, cx.plan.model);
    let mut home = AgentHome::create(&agent_home(cx, stage))?;
    home.lend_credentials(agent, model, &cx.host)?;
    let servers = restarted.endpoints.each().into_iter();
    let servers: BTreeMap<_, _> =
        servers.map(|(name, url)| (name.unwrap_or(SERVER).to_owned(), url.to_owned())).collect();
    let (address, repo) = (model_address(cx.sandbox.endpoint()), cx.sandbox.repo());
    let names = names(&prompt, repo.as_str(), home.path().as_str(), &format!("http://{address}"));
    let token = inside.get::<STELAE_MCP_TOKEN>()?.is_some();
    let (place, text) = cx.described.agents()?;
    let reached = Reached { servers, token, model };
    let filled = read_settings(agent, &place, text, &names, &reached)?;
    home.furnish(agent, &filled)?;
    cx.keep_json(&papers.named("agent.json"), &described(agent, model, program, &filled));
    let player = cx.sandbox.bin_dir().join("stelae-gateway");
    let ours = ScriptedModel {
        player: &player,
        address,
        script: &papers.script,
        record: &papers.requests,
        report: &papers.network,
    };
    let start = CliStart {
        agent,
        program,
        home: &home,
        args: &filled.args,
        cwd: &repo,
        inside,
        model: (model == Model::Scripted).then_some(ours),
        reach: &[cx.sandbox.endpoint()],
        held: gate.map(|gate| Held { holder: &player, gate }),
    };
    Ok(Prepared { invocation: start.invocation()?, prompt, home: Some(home) })
}

/// Where the agent's home for a stage is.
pub(super) fn agent_home(cx: &SmokeContext, stage: &Stage) -> Utf8PathBuf {
    homes(&cx.sandbox.workspace).join(&stage.name)
}

/// Where the homes of all stages are.
pub(crate) fn homes(workspace: &Utf8Path) -> Utf8PathBuf {
    workspace.join(AGENT_HOMES)
}

/// Where the model listens: beside the gateway. The whole address is the run's own, so that nobody else can be there, and
/// the settings of an agent are the same in every run on it.
pub(super) fn model_address(gateway: SocketAddr) -> SocketAddr {
    let port = gateway.port().checked_add(1).unwrap_or(gateway.port() - 1);
    SocketAddr::new(gateway.ip(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_listens_beside_the_gateway() {
        let beside = |port: u16| model_address(([127, 0, 0, 9], port).into()).port();
        assert_eq!((beside(9090), beside(65535)), (9091, 65534));
    }
}
