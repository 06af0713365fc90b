//! What the steps of a smoke run give each other. Facts only: each is written into the run's folder, and read back
//! when the run is resumed.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use stelae_model::endpoints::Endpoints;

use crate::sealed::Sealed;

/// Before the first step.
#[derive(Clone, Debug)]
pub(crate) struct Start;

/// The clone is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cloned {
    /// The clone.
    pub(crate) repo: Utf8PathBuf,
    /// The commit it stands on.
    pub(crate) head: String,
    /// The run's nonce, which is in a file of the clone.
    #[serde(default)]
    pub(crate) nonce: String,
}

/// Its programs are built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Built {
    /// The clone.
    pub(crate) cloned: Cloned,
    /// The programs, with the digests of what was built.
    pub(crate) programs: Vec<Sealed>,
}

/// The sandbox's config and state homes are prepared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SetUp {
    /// What was built.
    pub(crate) built: Built,
}

/// The bundle is installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bundled {
    /// What was set up.
    pub(crate) set_up: SetUp,
    /// The bundle.
    pub(crate) bundle: String,
}

/// `proxy.json` is rendered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Rendered {
    /// What was installed.
    pub(crate) bundled: Bundled,
    /// The file.
    pub(crate) proxy: Utf8PathBuf,
    /// SHA-256 of the file, to be found again when the stages are over.
    pub(crate) sha256: String,
    /// Its text as it may be kept: what servers have in their own environments are digests.
    pub(crate) masked: String,
}

/// The stack is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Restarted {
    /// What it runs on.
    pub(crate) rendered: Rendered,
    /// Where it is reached.
    pub(crate) endpoints: Endpoints,
    /// Where its gateway's account of the calls is.
    #[serde(default)]
    pub(crate) calls: Option<Utf8PathBuf>,
    /// So many lines had the gateway's account of its servers before this stack was started.
    #[serde(default)]
    pub(crate) server_events_before: usize,
    /// Pid of the clone's `xtask restart --attached`, which owns the stack.
    pub(crate) supervisor: i32,
    /// Its start time in the kernel's ticks: with the pid, this names one process for ever.
    pub(crate) supervisor_started: u64,
    /// Where in its log its records begin: those before are of an earlier stack.
    #[serde(default)]
    pub(crate) supervisor_log_start: u64,
}

impl Restarted {
    /// The run's nonce.
    pub(crate) fn nonce(&self) -> &str {
        &self.rendered.bundled.set_up.built.cloned.nonce
    }
}

/// The stack was looked at from outside: it lists its tools, and its processes have their environment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Attested {
    /// The stack.
    pub(crate) restarted: Restarted,
    /// What it lists.
    pub(crate) tools: BTreeSet<String>,
}

/// A stage was played and judged. The number says how many stages are behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Staged<const DONE: u8> {
    /// The stack.
    pub(crate) restarted: Restarted,
    /// What it lists now.
    pub(crate) tools: BTreeSet<String>,
}

/// The clone is as it was cloned, `proxy.json` as it was rendered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// The commit that all of this is true of.
    pub(crate) head: String,
}
