//! Reads the layers that the environment is resolved from.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::{STELAE_BIN_DIR, STELAE_ROOT, STELAE_RUN_ID};
use stelae_model::env::programs::declared;
use stelae_model::env::{EnvFile, Environment, Given, Layer, Layers};
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use crate::files::read_regular;

/// Where to read from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Root of the repository.
    pub root: Utf8PathBuf,
    /// Folder of the running program's binary.
    pub bin_dir: Utf8PathBuf,
    /// The run that another process of the harness has started this one for.
    pub run: Option<String>,
    /// `--env-file`: in place of `.env` in the root; it must exist.
    pub env_file: Option<Utf8PathBuf>,
    /// `--set NAME=VALUE`.
    pub command_line: Vec<(String, String)>,
}

/// The flag by which one process of the harness tells another which run it is started for. No variable: what a process
/// inherits from a run says nothing about what it was started for.
pub const OF_RUN: &str = "--of-run";

/// Name of the env file in the root.
pub const ENV_FILE: &str = ".env";
/// Name of the local file in the root.
pub const LOCAL_FILE: &str = ".env.local";

/// Reads all layers and resolves every declared variable.
///
/// # Errors
/// Exit 20: `env-file-unreadable`, `not-utf8`, and all that [`Environment::resolve`] finds.
pub fn load(sources: &Sources) -> Result<Environment, Failure> {
    let mut files = Vec::new();
    let (path, needed) = match &sources.env_file {
        Some(path) => (path.clone(), true),
        None => (sources.root.join(ENV_FILE), false),
    };
    files.extend(read(Layer::EnvFile, &path, needed)?);
    files.extend(read(Layer::LocalFile, &sources.root.join(LOCAL_FILE), false)?);
    Environment::resolve(&Layers {
        given: given(sources),
        files,
        process: process_layer()?,
        command_line: sources.command_line.clone(),
    })
}

/// What the harness knows of itself, and takes from no variable.
fn given(sources: &Sources) -> Vec<Given> {
    let mut given = vec![
        Given::of::<STELAE_ROOT>(sources.root.as_str()),
        Given::of::<STELAE_BIN_DIR>(sources.bin_dir.as_str()),
    ];
    given.extend(sources.run.as_deref().map(Given::of::<STELAE_RUN_ID>));
    given
}

fn read(layer: Layer, path: &Utf8Path, needed: bool) -> Result<Option<EnvFile>, Failure> {
    let text = read_regular(path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
    match text {
        Ok(text) => Ok(Some(EnvFile { layer, path: path.to_string(), text })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => Ok(None),
        Err(error) => {
            Err(Failure::new(ExitCode::Environment, "env-file-unreadable", "an env file cannot be read")
                .on(path.to_string())
                .because(error.to_string())
                .hint(format!(
                    "make it a readable UTF-8 file, or move it away; see: ls -l {}",
                    shell_word(path.as_str())
                )))
        }
    }
}

/// The environment of this process. A name that is not UTF-8 cannot be one of ours; a value that is not can.
fn process_layer() -> Result<Vec<(String, String)>, Failure> {
    let mut pairs = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => pairs.push((name, value)),
            // Such a value is not taken, so that it may be anything.
            Err(_) if declared(&name).is_none_or(|declared| declared.set_by.is_harness()) => {}
            Err(_) => {
                return Err(Failure::new(ExitCode::Environment, "not-utf8", format!("{name} is not UTF-8"))
                    .on(format!("process: {name}")));
            }
        }
    }
    Ok(pairs)
}
