//! `build`: cargo builds the clone, and the run keeps its own copies of the programs.

use std::collections::BTreeMap;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use stelae_model::env::declared::{PATH, STELAE_CACHE_HOME};
use stelae_model::env::programs::CARGO;
use stelae_model::env::{Base, CargoEnv, ProgramEnv as _};
use stelae_model::flow::Step;
use stelae_model::terminal::shell_word;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};

use crate::causes::Because as _;
use crate::files::{Readable, limits, open_untrusted, replace_by_copy};
use crate::process::{self, Limits, Stream};
use crate::programs;
use crate::sealed::Sealed;
use crate::smoke::build_cache::{BuildCache, WorkTree, unusable};
use crate::smoke::context::SmokeContext;
use crate::smoke::manifest;
use crate::smoke::state::{Built, Cloned};
use crate::tail::tail;

/// The programs that a run needs; each is a package of the same name.
const PROGRAMS: [&str; 2] = ["xtask", "stelae-gateway"];

/// By which a repository names the toolchain that rustup uses in it.
const TOOLCHAIN_FILES: [&str; 2] = ["rust-toolchain.toml", "rust-toolchain"];

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
        let programs = if cx.plan.cold { cold(cx, &cloned)? } else { warm(cx, &cloned)? };
        manifest::check_step(cx, "build", &["build"])?;
        cx.programs().clone_from(&programs);
        Ok(Built { cloned, programs })
    }
}

/// Builds in a folder of the run's own.
fn cold(cx: &SmokeContext, cloned: &Cloned) -> Result<Vec<Sealed>, Failure> {
    let target = cx.sandbox.workspace.join("target");
    let sources = look(&cloned.repo)?;
    let built = cargo_build(cx, &target);
    written(cx, &sources)?;
    take(cx, &built?)
}

/// Builds in the folder that runs share, and lets go of it only when the programs are taken.
fn warm(cx: &SmokeContext, cloned: &Cloned) -> Result<Vec<Sealed>, Failure> {
    let folder = cx.host.get::<STELAE_CACHE_HOME>()?.join("smoke-build");
    let tree = cx.git_with(|git, limits| git.tree(&cloned.repo, limits, &cx.recorder))?;
    let cache = BuildCache::lock(&folder, cx.deadline, &cx.interrupt, &mut || {
        cx.recorder.note("waiting for another run's build");
    })?;
    let fail = |error: anyhow::Error| unusable(&folder).because_of(&error);
    let prepared = cache.prepare(&cloned.repo, &cloned.head, &tree).map_err(fail)?;
    cx.recorder.note(prepared.to_string());
    let sources = look(&cloned.repo)?;
    let built = cargo_build(cx, &cache.target());
    // Also of a build that failed or was stopped: what it wrote, the next one would lack.
    let wrote = written(cx, &sources)?;
    cache.conclude(wrote).map_err(fail)?;
    take(cx, &built?)
}

fn look(repo: &Utf8Path) -> Result<WorkTree, Failure> {
    WorkTree::look(repo.as_std_path()).map_err(|error| unreadable(repo, &error))
}

/// Whether the build wrote into its sources, and says where.
fn written(cx: &SmokeContext, sources: &WorkTree) -> Result<bool, Failure> {
    const MOST_NAMED: usize = 5;
    let written = sources.written().map_err(|error| unreadable(&cx.sandbox.repo(), &error))?;
    if written.is_empty() {
        return Ok(false);
    }
    let named = written.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = match written.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    cx.recorder.warn(format!(
        "the build writes into the sources, so that no build of them is warm: {named}{more}; a build script has OUT_DIR for that"
    ));
    Ok(true)
}

fn unreadable(repo: &Utf8Path, error: &anyhow::Error) -> Failure {
    let what = "the files of the clone cannot be looked at";
    Failure::new(ExitCode::StepFailed, "clone-unreadable", what)
        .on(repo.to_string())
        .because_of(error)
        .hint(format!("ls -laR {}", shell_word(repo.as_str())))
}

/// Builds, and gives the programs by name, where cargo says that they are: a user's configuration of cargo may put them
/// somewhere else than expected, and then an older run's programs would lie there.
fn cargo_build(cx: &SmokeContext, target: &Utf8Path) -> Result<BTreeMap<String, Utf8PathBuf>, Failure> {
    let inside = cx.sandbox.environment(&cx.host)?;
    let cargo = programs::find("cargo", inside.get::<PATH>()?.as_str())?;
    let target = AbsolutePath::parse(target.as_str()).map_err(Failure::unexpected)?;
    let env = CargoEnv::from_environment(&inside)?;
    // What the repository asks for is what another clone of it is built with; what rustup chose for the caller is not.
    let names_toolchain = TOOLCHAIN_FILES.iter().any(|name| cx.sandbox.repo().join(name).exists());
    let env = CargoEnv {
        rustup_toolchain: env.rustup_toolchain.clone().filter(|_| !names_toolchain),
        target_dir: Some(target.clone()),
        build_dir: Some(target),
        ..env
    };
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
fn take(cx: &SmokeContext, built: &BTreeMap<String, Utf8PathBuf>) -> Result<Vec<Sealed>, Failure> {
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
        copy(from, &path).map_err(|error| not_built().because_of(&error))
    };
    // At once: each is copied, and read once more for its digest.
    std::thread::scope(|scope| {
        let taking = PROGRAMS.each_ref().map(|name| scope.spawn(move || take_one(name)));
        taking.map(|one| one.join().unwrap_or_else(|_| Err(Failure::unexpected("taking a program panicked"))))
    })
    .into_iter()
    .collect()
}

fn copy(from: &Utf8Path, to: &Utf8Path) -> anyhow::Result<Sealed> {
    // In the place of what is there, which may be running still, from an earlier session of the run.
    let program = open_untrusted(from).with_context(|| from.to_string())?;
    replace_by_copy(to, &program, limits::PROGRAM, Readable::Program).with_context(|| to.to_string())?;
    Sealed::of(to).with_context(|| to.to_string())
}
