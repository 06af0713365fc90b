//! Which program an agent is, and of which version.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use stelae_model::agent::{Agent, CliVersion, Model, version_said};
use stelae_model::env::Environment;
use stelae_model::env::declared::PATH;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use super::process::{self as agent_process, Own};
use super::{AgentHome, credentials};
use crate::deadline::Deadline;
use crate::process::{self, Limits};
use crate::programs;
use crate::record::Recorder;
use crate::sealed::{self, Sealed};
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
    /// The file that this is, symbolic links followed, with its content.
    pub sealed: Sealed,
    /// Whether that is the pinned installation, whose content was compared. Else it was on PATH.
    pub pinned: bool,
    /// Its version.
    pub version: CliVersion,
}

/// Finds the program of an agent CLI: the installation that `shelf` pins, else the one on PATH. Its version is asked for in `scratch`,
/// which is left with what it said. A live model's credentials are looked for, too.
///
/// # Errors
/// Exit 40: `agent-missing`, `agent-version` when it has to be the pinned one, `agent-credentials`; 10, `agent-unusable`,
/// when it does not say its version; 2, `unknown-tool`, when the pins do not know it.
pub fn find(
    agent: Agent,
    model: Model,
    locked: bool,
    shelf: &Shelf,
    host: &Environment,
    scratch: &Utf8Path,
    interrupt: &Interrupt,
) -> Result<AgentProgram, Failure> {
    let standing = shelf.stand(agent.name())?;
    let pinned = standing.installed;
    let path = match pinned {
        true => shelf.program(agent.name())?,
        false => programs::find(agent.name(), host.get::<PATH>()?.as_str())
            .map_err(|_| missing(agent, &standing.folder))?,
    };
    // Before anything of it is executed.
    let sealed = seal(&path)?;
    let said = ask(agent, &path, host, scratch, interrupt)?;
    let version = CliVersion { said, pinned: standing.version };
    if locked {
        version.check_locked(agent)?;
    }
    if model == Model::Live {
        credentials::check(agent, host)?;
    }
    Ok(AgentProgram { path, sealed, pinned, version })
}

impl AgentProgram {
    /// That it still is the program whose version was asked for; and, of a pinned one, that everything that was installed
    /// with it is what it was.
    ///
    /// # Errors
    /// Exit 50, `program-changed`; 40, `agent-not-started` when it is gone, and `tool-changed`.
    pub fn check(&self, agent: Agent, shelf: &Shelf) -> Result<(), Failure> {
        let real = self.path.canonicalize_utf8().map_err(|error| {
            Failure::new(
                ExitCode::PrerequisiteMissing,
                "agent-not-started",
                format!("{agent} is not there any more"),
            )
            .on(self.path.to_string())
            .because(error.to_string())
            .hint(format!("cargo xtask tools install {agent}"))
        })?;
        if real != self.sealed.path {
            let why = format!("it was {}, and is {real}", self.sealed.path);
            return Err(sealed::changed(&agent.to_string(), &self.path).because(why));
        }
        self.sealed.clone().check_content(&agent.to_string())?;
        if self.pinned {
            shelf.program(agent.name())?;
        }
        Ok(())
    }
}

/// The file itself, with its content.
fn seal(path: &Utf8Path) -> Result<Sealed, Failure> {
    let sealed = path.canonicalize_utf8().and_then(|real| Sealed::of(&real));
    sealed.map_err(|error| {
        Failure::new(
            ExitCode::PrerequisiteMissing,
            "agent-missing",
            "the program of the agent cannot be read",
        )
        .on(path.to_string())
        .because(error.to_string())
        .hint(format!("ls -lL {}", shell_word(path.as_str())))
    })
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
