//! `held`: becomes an agent, once the harness has looked at this process and lets it go.
//!
//! The environment and the pid are those that the agent is going to have, and the program is the very file that the harness
//! has compared: it is opened first, shown, and executed by its descriptor. A script cannot be executed so, as its
//! interpreter could not open it any more; it is executed by its path.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use stelae_model::{ExitCode, Failure};
use stelae_run::files::{open_config, open_folder};

/// What a program of the system begins with; anything else is a script.
const ELF: &[u8] = b"\x7fELF";

/// Become an agent when the harness, which is who starts this, lets it go
#[derive(Debug, Args)]
pub(crate) struct Held {
    /// The socket of the harness
    #[arg(long, value_name = "PATH")]
    at: Utf8PathBuf,
    /// How long the harness may take
    #[arg(long, value_name = "N", default_value_t = 60_000)]
    within_ms: u64,
    /// The agent and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl Held {
    /// Becomes the agent; returns only if that cannot be.
    ///
    /// # Errors
    /// 20, `agent-held`: the harness does not let it go, and says why itself. 40, `program-not-started`.
    pub(crate) fn run(self) -> Result<u8, Failure> {
        let (program, args) = self.program.split_first().ok_or_else(|| Failure::unexpected("no program"))?;
        let opened = open(Utf8Path::new(program)).map_err(|error| not_started(program, &error))?;
        self.wait(opened.as_ref()).map_err(|error| {
            Failure::new(ExitCode::Environment, "agent-held", "the agent was not let go")
                .on(program)
                .because(error.to_string())
        })?;
        let path = opened.as_ref().map_or_else(|| program.clone(), descriptor_path);
        #[expect(clippy::disallowed_methods, reason = "nothing is started: this process becomes the program")]
        let error = Command::new(path).arg0(program).args(args).exec();
        Err(not_started(program, &error))
    }

    /// Shows the program to the harness, and waits for its word.
    fn wait(&self, opened: Option<&File>) -> io::Result<()> {
        let mut harness = connect(&self.at)?;
        harness.set_read_timeout(Some(Duration::from_millis(self.within_ms.max(1))))?;
        let shown = opened.map_or_else(|| "-".to_owned(), |file| file.as_raw_fd().to_string());
        harness.write_all(format!("{shown}\n").as_bytes())?;
        harness.read_exact(&mut [0])
    }
}

/// A socket, whose path may be longer than the 107 bytes that its name can have.
fn connect(path: &Utf8Path) -> io::Result<UnixStream> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = open_folder(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// The program, if it can be executed by its descriptor.
fn open(path: &Utf8Path) -> io::Result<Option<File>> {
    if !path.as_str().contains('/') || !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    // One that may be executed, and not read.
    let Ok(file) = open_config(path) else { return Ok(None) };
    let mut begins = [0; ELF.len()];
    let is_elf = file.read_exact_at(&mut begins, 0).is_ok() && begins == ELF;
    Ok(is_elf.then_some(file))
}

/// The path of an open file, for as long as it is open: executing it closes it.
fn descriptor_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn not_started(program: &str, error: &io::Error) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "program-not-started", "the agent cannot be started")
        .on(program)
        .because(error.to_string())
}
