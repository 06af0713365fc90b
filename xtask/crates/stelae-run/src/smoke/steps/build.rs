//! `build`: cargo builds the clone, and the run keeps its own copies of the programs.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use sha2::{Digest as _, Sha256};
use stelae_model::env::declared::{PATH, STELAE_CACHE_HOME};
use stelae_model::env::programs::CARGO;
use stelae_model::env::{Base, CargoEnv, ProgramEnv as _};
use stelae_model::flow::Step;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};

use crate::causes::Because as _;
use crate::process;
use crate::programs;
use crate::smoke::build_cache::{BuildCache, unusable};
use crate::smoke::context::SmokeContext;
use crate::smoke::state::{Built, BuiltProgram, Cloned};

/// The programs that a run needs; each is a package of the same name.
const PROGRAMS: [&str; 2] = ["xtask", "stelae-gateway"];

/// Builds `xtask` and the gateway from the clone.
#[derive(Debug)]
pub(crate) struct Build;

impl Step for Build {
    type Context = SmokeContext;
    type Needs = Cloned;
    type Gives = Built;

    fn name(&self) -> String {
        "build".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, cloned: Cloned) -> Result<Built, Failure> {
        let programs = if cx.plan.cold {
            let target = cx.sandbox.workspace.join("target");
            cargo_build(cx, &target)?;
            take(cx, &target)?
        } else {
            warm(cx, &cloned)?
        };
        Ok(Built { cloned, programs })
    }
}

/// Builds in the folder that runs share, and lets go of it only when the programs are taken.
fn warm(cx: &SmokeContext, cloned: &Cloned) -> Result<Vec<BuiltProgram>, Failure> {
    let folder = cx.host.get::<STELAE_CACHE_HOME>()?.join("smoke-build");
    let tree = cx.git_with(|git, limits| git.tree(&cloned.repo, limits, &cx.recorder))?;
    let cache = BuildCache::lock(&folder, cx.deadline, &cx.interrupt, &mut || {
        cx.recorder.note("waiting for another run's build");
    })?;
    let same =
        cache.set_times_back(&cloned.repo, &tree).map_err(|error| unusable(&folder).because_of(&error))?;
    cx.recorder.note(format!("{same} of {} files are as they were last built", tree.len()));
    cargo_build(cx, &cache.target())?;
    let programs = take(cx, &cache.target())?;
    cache.stamp_as(&tree).map_err(|error| unusable(&folder).because_of(&error))?;
    Ok(programs)
}

fn cargo_build(cx: &SmokeContext, target: &Utf8Path) -> Result<(), Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let cargo = programs::find("cargo", inside.get::<PATH>()?.as_str())?;
    let target = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv { target_dir: Some(target), ..CargoEnv::from_environment(&inside)? };
    let packages = PROGRAMS.iter().flat_map(|&program| ["--package", program, "--bin", program]);
    let invocation = CARGO
        .invoke(cargo, cx.sandbox.repo(), &Base::from_environment(&inside)?, &env)
        .args(["build", "--locked"])
        .args(packages);
    let finished = cx.with_limits("cargo", |limits| {
        process::run(&invocation, limits, &mut |_, line| cx.recorder.line("cargo", line))
    })?;
    finished.success_or_failure().map(drop).map_err(|mut failure| {
        "build-failed".clone_into(&mut failure.kind);
        failure.what = "the clone does not build".to_owned();
        failure.hint("what is committed is what is built: is a file missing from the commit?")
    })
}

/// Copies the programs into the workspace: the shared folder is the next run's as soon as its lock is free.
fn take(cx: &SmokeContext, target: &Utf8Path) -> Result<Vec<BuiltProgram>, Failure> {
    let take_one = |&name: &&str| {
        let (from, path) = (target.join("debug").join(name), cx.sandbox.bin_dir().join(name));
        let sha256 = copy(&from, &path).map_err(|error| {
            Failure::new(
                ExitCode::StepFailed,
                "program-not-built",
                format!("the clone's {name} cannot be taken"),
            )
            .on(from.to_string())
            .because(error.to_string())
        })?;
        Ok(BuiltProgram { path, sha256 })
    };
    PROGRAMS.iter().map(take_one).collect()
}

fn copy(from: &Utf8Path, to: &Utf8PathBuf) -> anyhow::Result<String> {
    std::fs::copy(from, to).with_context(|| format!("{from} cannot be copied to {to}"))?;
    let digest = Sha256::digest(std::fs::read(to).with_context(|| to.to_string())?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
