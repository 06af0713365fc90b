//! `build`: cargo builds the clone, and the run keeps its own copies of the programs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use stelae_model::env::declared::{PATH, STELAE_CACHE_HOME};
use stelae_model::env::programs::CARGO;
use stelae_model::env::{Base, CargoEnv, ProgramEnv as _};
use stelae_model::flow::Step;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};

use crate::causes::Because as _;
use crate::process::{self, Limits, Stream};
use crate::programs;
use crate::smoke::build_cache::{BuildCache, unusable};
use crate::smoke::context::SmokeContext;
use crate::smoke::state::{Built, BuiltProgram, Cloned};
use crate::tail::tail;

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
            take(cx, &cargo_build(cx, &target)?)?
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
    let programs = take(cx, &cargo_build(cx, &cache.target())?)?;
    cache.stamp_as(&tree).map_err(|error| unusable(&folder).because_of(&error))?;
    Ok(programs)
}

/// Builds, and gives the programs by name, where cargo says that they are: a user's configuration of cargo may put them
/// somewhere else than expected, and then an older run's programs would lie there.
fn cargo_build(cx: &SmokeContext, target: &Utf8Path) -> Result<BTreeMap<String, Utf8PathBuf>, Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let cargo = programs::find("cargo", inside.get::<PATH>()?.as_str())?;
    let target = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv { target_dir: Some(target), ..CargoEnv::from_environment(&inside)? };
    let packages = PROGRAMS.iter().flat_map(|&program| ["--package", program, "--bin", program]);
    let invocation = CARGO
        .invoke(cargo, cx.sandbox.repo(), &Base::from_environment(&inside)?, &env)
        .args(["build", "--locked", "--message-format", "json-render-diagnostics"])
        .args(packages);
    let (messages, talk) = (cx.log("cargo-messages"), cx.log("cargo"));
    let limits = Limits { deadline: cx.deadline, interrupt: &cx.interrupt, stdout: &messages, stderr: &talk };
    let finished = cx.recorder.minding_leaks(process::run(&invocation, &limits, &mut |stream, line| {
        if stream == Stream::Stderr {
            cx.recorder.line("cargo", line);
        }
    })?);
    let finished = finished.success_or_failure().map_err(|mut failure| {
        "build-failed".clone_into(&mut failure.kind);
        failure.what = "the clone does not build".to_owned();
        failure.log_tail = tail(&talk);
        failure.hint("what is committed is what is built: is a file missing from the commit?")
    })?;
    Ok(executables(&finished.stdout_whole()?))
}

/// The programs among cargo's messages, by the name of their target.
fn executables(messages: &str) -> BTreeMap<String, Utf8PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = |message: Value| {
        let path = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), Utf8PathBuf::from(path)))
    };
    parsed.filter_map(executable).collect()
}

/// Copies the programs into the workspace: the shared folder is the next run's as soon as its lock is free.
fn take(cx: &SmokeContext, built: &BTreeMap<String, Utf8PathBuf>) -> Result<Vec<BuiltProgram>, Failure> {
    let take_one = |&name: &&str| {
        let path = cx.sandbox.bin_dir().join(name);
        let not_built = || {
            Failure::new(
                ExitCode::StepFailed,
                "program-not-built",
                format!("the clone's {name} cannot be taken"),
            )
        };
        let from = built.get(name).ok_or_else(|| not_built().because("cargo names no such program"))?;
        let sha256 = copy(from, &path).map_err(|error| not_built().because_of(&error))?;
        Ok(BuiltProgram { path, sha256 })
    };
    PROGRAMS.iter().map(take_one).collect()
}

fn copy(from: &Utf8Path, to: &Utf8PathBuf) -> anyhow::Result<String> {
    std::fs::copy(from, to).with_context(|| format!("{from} cannot be copied to {to}"))?;
    let digest = Sha256::digest(std::fs::read(to).with_context(|| to.to_string())?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
