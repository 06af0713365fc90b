//! pip: a virtual environment of the tool's own.

use std::io::{self, Write as _};

use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};
use stelae_model::env::programs::PYTHON;
use stelae_model::env::{ProgramEnv as _, PythonEnv};
use stelae_model::tools::Pin;
use stelae_model::value::{EnvValue as _, Text};
use stelae_model::{ExitCode, Failure};

use super::lock::unusable;
use super::stage::Stage;
use super::{Job, Shelf};
use crate::files::{discard, limits, open_existing, read_untrusted};

/// Only wheels are taken: installing one executes nothing of it. The pinned one is downloaded alone, and compared, before it
/// is installed with what it needs.
pub(super) fn fill(shelf: &Shelf, pin: &Pin, stage: &Stage, job: &Job<'_>) -> Result<(), Failure> {
    const PIP: [&str; 2] = ["-m", "pip"];
    const QUIET: [&str; 3] = ["--progress-bar", "off", "--only-binary=:all:"];
    let log = stage.path().join("install.log");
    let cache = Text::parse(shelf.cache("pip").as_str()).map_err(Failure::unexpected)?;
    let env = PythonEnv { cache_dir: Some(cache), ..PythonEnv::from_environment(job.environment)? };
    let base = job.base(stage)?;
    let python = |program: Utf8PathBuf| PYTHON.invoke(program, stage.path().to_owned(), &base, &env);
    let host = job.host("python3", pin)?;
    job.check_version(&python(host.clone()).args(["--version"]), pin, &log)?;
    // Debian has them in a package of their own.
    job.run(&python(host.clone()).args(["-c", "import ensurepip, venv"]), &log).map_err(no_venv)?;
    job.run(&python(host).args(["-m", "venv", "venv"]), &log)?;
    let pip = || python(stage.path().join("venv/bin/python")).args(PIP);
    let wheels = stage.path().join("wheel");
    let exactly = format!("{}=={}", pin.package, pin.version);
    let download = pip().args(["download", "--no-deps", "--dest", wheels.as_str(), &exactly]);
    job.run(&download.args(QUIET), &log)?;
    let wheel = only_file(&wheels).map_err(|error| unusable(&wheels, &error))?;
    let bytes = read_untrusted(&wheel, limits::TOOL_FILE).map_err(|error| unusable(&wheel, &error))?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    pin.verify(Some(&format!("sha256:{digest}")))?;
    job.run(&pip().args(["install"]).args(QUIET).args([wheel.as_str()]), &log)?;
    let moved = discard(&wheels).and_then(|()| move_scripts(stage));
    moved.map_err(|error| unusable(stage.path(), &error))
}

fn no_venv(failure: Failure) -> Failure {
    if failure.kind != "command-failed" {
        return failure;
    }
    let what = "python3 cannot make virtual environments";
    Failure::new(ExitCode::PrerequisiteMissing, "toolchain-missing", what)
        .log_tail(failure.log_tail)
        .hint("install its venv module: the package python3-venv, where there is one")
}

/// The one file that a download has left.
fn only_file(folder: &Utf8Path) -> io::Result<Utf8PathBuf> {
    let mut files = folder.read_dir_utf8()?.map(|entry| entry.map(camino::Utf8DirEntry::into_path));
    match (files.next(), files.next()) {
        (Some(file), None) => file,
        _ => Err(io::Error::other("pip was to download one file")),
    }
}

/// The scripts of an environment name its python by the path that it had when they were written: they are given the one
/// that it is going to have. Nothing else in it is found by that path.
fn move_scripts(stage: &Stage) -> io::Result<()> {
    let (from, to) = (stage.path().as_str(), stage.target().as_str());
    let venv = stage.path().join("venv");
    let scripts = venv.join("bin").read_dir_utf8()?.collect::<Result<Vec<_>, _>>()?;
    let scripts = scripts.into_iter().map(camino::Utf8DirEntry::into_path);
    for path in scripts.chain([venv.join("pyvenv.cfg")]) {
        // python itself is a link, out of the environment.
        if !path.symlink_metadata()?.is_file() {
            continue;
        }
        if let Ok(text) = String::from_utf8(read_untrusted(&path, limits::TOOL_FILE)?)
            && text.contains(from)
        {
            // Written in place: it keeps its mode, and no process uses it yet.
            let mut file = open_existing(&path)?;
            file.set_len(0)?;
            file.write_all(text.replace(from, to).as_bytes())?;
        }
    }
    Ok(())
}
