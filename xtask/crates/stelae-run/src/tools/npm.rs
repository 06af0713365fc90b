//! npm: a project of its own, whose only dependency is the package.

use serde_json::json;
use stelae_model::Failure;
use stelae_model::env::programs::NPM;
use stelae_model::env::{Invocation, NpmEnv, ProgramEnv as _};
use stelae_model::tools::{Pin, package_integrity};
use stelae_model::value::{EnvValue as _, Text};

use super::lock::unusable;
use super::stage::Stage;
use super::{Job, Shelf};
use crate::files::{create_private, limits, read_untrusted};

/// npm compares every package with what its registry says of it, and the lock file that it writes says what that was: so
/// the content of the pinned one, and of its parts, can be compared before any script has run.
pub(super) fn fill(shelf: &Shelf, pin: &Pin, stage: &Stage, job: &Job<'_>) -> Result<(), Failure> {
    let log = stage.path().join("install.log");
    let cache = Text::parse(shelf.cache("npm").as_str()).map_err(Failure::unexpected)?;
    let env = NpmEnv { cache: Some(cache), ..NpmEnv::from_environment(job.environment)? };
    let invoke = |program: &str, args: &[&str]| -> Result<Invocation, Failure> {
        let program = job.host(program, pin)?;
        Ok(NPM.invoke(program, stage.path().to_owned(), &job.base(stage)?, &env).args(args.iter().copied()))
    };
    job.check_version(&invoke("node", &["--version"])?, pin, &log)?;
    let project = json!({"private": true, "dependencies": {&pin.package: &pin.version}});
    let manifest = stage.path().join("package.json");
    create_private(&manifest, format!("{project:#}\n").as_bytes())
        .map_err(|error| unusable(&manifest, &error))?;
    let install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--global=false"];
    // At this level npm names each file that it gets; below it, nothing until the end. Where nobody answers it asks twice
    // more, and would wait for a minute in between.
    let patience = ["--package-lock=true", "--loglevel=http", "--fetch-retry-maxtimeout=10000"];
    job.run(&invoke("npm", &install)?.args(patience), &log)?;
    let lock = stage.path().join("package-lock.json");
    let lock = read_untrusted(&lock, limits::TOOL_FILE).map_err(|error| unusable(&lock, &error))?;
    let lock = String::from_utf8_lossy(&lock);
    pin.verify(package_integrity(&lock, &pin.package).as_deref())?;
    pin.verify_parts(|part| package_integrity(&lock, part))?;
    if pin.install_script {
        let rebuild = ["rebuild", &pin.package, "--ignore-scripts=false", "--foreground-scripts"];
        job.run(&invoke("npm", &rebuild)?, &log)?;
    }
    Ok(())
}
