//! go: a module of its own, which requires the pinned one.

use stelae_model::Failure;
use stelae_model::env::programs::GO;
use stelae_model::env::{GoEnv, ProgramEnv as _};
use stelae_model::tools::{Pin, module_sum};
use stelae_model::value::{EnvValue as _, Text};

use super::lock::unusable;
use super::stage::Stage;
use super::{Job, Shelf};
use crate::files::{self, Readable, create_private};

/// `go install module@version` would do, were it not that it asks the proxy for every version there is, which not every
/// proxy tells. A module that requires the pinned one asks for that alone, and its `go.sum` has go compare the content
/// once more. What the pinned one requires in turn, its own `go.mod` says; go compares that with what everybody gets.
pub(super) fn fill(shelf: &Shelf, pin: &Pin, stage: &Stage, job: &Job<'_>) -> Result<(), Failure> {
    let (log, answer) = (stage.path().join("install.log"), stage.path().join("module.json"));
    let caches = shelf.cache("go");
    let text = |path: &str| Text::parse(path).map(Some).map_err(Failure::unexpected);
    let env = GoEnv {
        path: text(caches.as_str())?,
        mod_cache: text(caches.join("modules").as_str())?,
        cache: text(caches.join("builds").as_str())?,
        bin: text(stage.path().join("bin").as_str())?,
        // A person's own settings of go may name another place.
        tmpdir: text(stage.temporary().as_str())?,
        // Where it would keep counters of what it was used for.
        xdg_config_home: Some(
            stelae_model::value::AbsolutePath::parse(caches.as_str()).map_err(Failure::unexpected)?,
        ),
        ..GoEnv::from_environment(job.environment)?
    };
    let (program, base) = (job.host("go", pin)?, job.base(stage)?);
    let go = |args: &[&str]| {
        let invocation = GO.invoke(program.clone(), stage.path().to_owned(), &base, &env);
        invocation.args(args.iter().copied())
    };
    job.check_version(&go(&["version"]), pin, &log)?;
    let write = |name: &str, text: String| {
        let path = stage.path().join(name);
        create_private(&path, text.as_bytes()).map_err(|error| unusable(&path, &error))
    };
    write("go.mod", format!("module tool\n\ngo {}\n", pin.at_least))?;
    let module = format!("{}@{}", pin.package, pin.version);
    // Modules are kept such that a person can delete them.
    let said = job.ask(&go(&["mod", "download", "-modcacherw", "-json", &module]), &answer, &log)?;
    pin.verify(module_sum(&said).as_deref())?;
    let replace = |name: &str, text: String| {
        let path = stage.path().join(name);
        files::replace(&path, text.as_bytes(), Readable::ByOwner).map_err(|error| unusable(&path, &error))
    };
    replace(
        "go.mod",
        format!("module tool\n\ngo {}\n\nrequire {} {}\n", pin.at_least, pin.package, pin.version),
    )?;
    replace("go.sum", format!("{} {} {}\n", pin.package, pin.version, pin.integrity))?;
    job.run(&go(&["install", "-modcacherw", "-mod=mod", "-trimpath", "-v", &pin.package]), &log)?;
    Ok(())
}
