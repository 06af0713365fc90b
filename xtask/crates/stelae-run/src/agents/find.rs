//! Which program an agent is, and of which version.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use stelae_model::agent::{Agent, CliVersion, Model, version_said};
use stelae_model::env::Environment;
use stelae_model::env::declared::PATH;
use stelae_model::{ExitCode, Failure};

use super::process::{self as agent_process, Own};
use super::{AgentHome, credentials};
use crate::deadline::Deadline;
use crate::process::{self, Limits};
use crate::programs;
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::tools::Shelf;

/// To say its version takes an agent 20 ms, and twice a second on a busy machine.
const ASKING: Duration = Duration::from_secs(15);

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentProgram {
    /// Where it is.
    pub path: Utf8PathBuf,
    /// Whether that is the pinned installation, whose content was compared. Else it was on PATH.
    pub pinned: bool,
    /// Its version.
    pub version: CliVersion,
}

/// Finds the program of an agent CLI: the pinned installation, else the one on PATH. Its version is asked for in `scratch`,
/// which is left with what it said. A live model's credentials are looked for, too.
///
/// # Errors
/// Exit 40: `agent-missing`, `agent-version` when it has to be the pinned one, `agent-credentials`; 10, `agent-unusable`,
/// when it does not say its version; and what [`Shelf::open`] finds.
pub fn find(
    agent: Agent,
    model: Model,
    locked: bool,
    host: &Environment,
    scratch: &Utf8Path,
    interrupt: &Interrupt,
) -> Result<AgentProgram, Failure> {
    let standing = Shelf::open(host)?.stand(agent.name())?;
    let pinned = standing.installed;
    let path = match pinned {
        true => standing.path,
        false => programs::find(agent.name(), host.get::<PATH>()?.as_str())
            .map_err(|_| missing(agent, &standing.folder))?,
    };
    let said = ask(agent, &path, host, scratch, interrupt)?;
    let version = CliVersion { said, pinned: standing.version };
    if locked {
        version.check_locked(agent)?;
    }
    if model == Model::Live {
        credentials::check(agent, host)?;
    }
    Ok(AgentProgram { path, pinned, version })
}

fn missing(agent: Agent, folder: &Utf8Path) -> Failure {
    let why = match folder.exists() {
        true => {
            "what is there is not what is pinned, or was installed by another version of this program; and it is not on PATH"
        }
        false => "it is neither there nor on PATH",
    };
    Failure::new(ExitCode::PrerequisiteMissing, "agent-missing", format!("{agent} is not installed"))
        .on(folder.to_string())
        .because(why)
        .hint(format!("cargo xtask tools install {agent}"))
}

fn ask(
    agent: Agent,
    path: &Utf8Path,
    host: &Environment,
    scratch: &Utf8Path,
    interrupt: &Interrupt,
) -> Result<String, Failure> {
    let (out, talk) = (scratch.join("agent-version.log"), scratch.join("agent.log"));
    // A home in which there is nothing, for as long as it takes; and no token.
    let home = AgentHome::create(&scratch.join("agent-home"))?;
    let own = Own { home: home.path(), model: None, no_proxy: "127.0.0.1", token: false };
    let invocation = agent_process::of(agent, path.to_owned(), home.path().to_owned(), host, &own)?;
    let invocation = invocation.args(["--version"]);
    let limits = Limits { deadline: Deadline::after(ASKING), interrupt, stdout: &out, stderr: &talk };
    let quiet = Recorder::to_listeners(Vec::new());
    let finished = process::run(&invocation, &limits, &mut |_, _| ());
    let finished = finished.map(|finished| quiet.minding_leaks(finished));
    home.remove()?;
    let finished = finished?.success_or_failure()?;
    version_said(&finished.stdout_text).map(str::to_owned).ok_or_else(|| {
        Failure::new(
            ExitCode::StepFailed,
            "agent-unusable",
            format!("{agent} does not say which version it is"),
        )
        .on(path.to_string())
        .because(format!("it says {:?}", finished.stdout_text))
        .hint(format!("cargo xtask tools install {agent}"))
    })
}
