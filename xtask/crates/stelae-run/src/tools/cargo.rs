//! cargo: a crate, built with the lock file that its author gave it.

use std::io;

use stelae_model::Failure;
use stelae_model::env::programs::CARGO;
use stelae_model::env::{CargoEnv, ProgramEnv as _};
use stelae_model::tools::{Pin, crate_checksum};
use stelae_model::value::{AbsolutePath, EnvValue as _};

use super::Job;
use super::lock::unusable;
use super::stage::Stage;
use crate::files::{create_private, create_private_dirs, discard, limits, read_untrusted};

/// A package that depends on the crate has cargo write down what the index says of its content; that is compared, and
/// cargo itself compares what it downloads with the index. Building a crate executes its build scripts, so it comes last.
///
/// What it downloads goes where cargo keeps every crate, as with any other build: `CARGO_HOME` is also where the user's
/// registries are named.
pub(super) fn fill(pin: &Pin, stage: &Stage, job: &Job<'_>) -> Result<(), Failure> {
    let log = stage.path().join("install.log");
    let target = stage.path().join("target");
    let folder = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv {
        target_dir: Some(folder.clone()),
        build_dir: Some(folder),
        ..CargoEnv::from_environment(job.environment)?
    };
    let (program, base, probe) = (job.host("cargo", pin)?, job.base(stage)?, stage.path().join("probe"));
    make_probe(pin, &probe).map_err(|error| unusable(&probe, &error))?;
    // In a folder of its own: a workspace around the cache is not its.
    let cargo =
        |args: &[&str]| CARGO.invoke(program.clone(), probe.clone(), &base, &env).args(args.iter().copied());
    job.check_version(&cargo(&["--version"]), pin, &log)?;
    job.run(&cargo(&["generate-lockfile"]), &log)?;
    let lock = probe.join("Cargo.lock");
    let lock = read_untrusted(&lock, limits::TOOL_FILE).map_err(|error| unusable(&lock, &error))?;
    pin.verify(crate_checksum(&String::from_utf8_lossy(&lock), &pin.package, &pin.version).as_deref())?;
    let exactly = format!("={}", pin.version);
    let install = cargo(&["install", &pin.package, "--version", &exactly, "--locked", "--no-track"]);
    let profile = pin.profile.as_deref().unwrap_or("release");
    job.run(&install.args(["--profile", profile, "--root", stage.path().as_str()]), &log)?;
    let removed = discard(&target).and_then(|()| discard(&probe));
    removed.map_err(|error| unusable(stage.path(), &error))
}

fn make_probe(pin: &Pin, probe: &camino::Utf8Path) -> io::Result<()> {
    create_private_dirs(probe)?;
    let manifest = format!(
        "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n\
         [dependencies]\n{} = \"={}\"\n[workspace]\n",
        pin.package, pin.version
    );
    create_private(&probe.join("Cargo.toml"), manifest.as_bytes())?;
    create_private(&probe.join("lib.rs"), b"")
}
