//! The programs of the host that a run used: git, cargo, and whatever executes its servers and services. They are not pinned; the
//! evidence names each with its version and its content.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stelae_model::Failure;
use stelae_model::env::declared::{PATH, STELAE_CACHE_HOME};
use stelae_model::env::programs::{CARGO, NPM, PYTHON};
use stelae_model::env::{Base, CargoEnv, Environment, Invocation, NpmEnv, ProgramEnv as _, PythonEnv};

use crate::files::{limits, read_untrusted_json, replace_json};
use crate::process::{self, Limits, tree};
use crate::programs;
use crate::sealed::Sealed;
use crate::smoke::context::SmokeContext;

/// Its name in the cache home.
const CACHE: &str = "host-programs.json";
/// More programs than a stack has; older entries go first.
const MOST: usize = 200;

/// A program of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostProgram {
    sealed: Sealed,
    /// What it said to `--version`; nothing of one that was not asked.
    version: Option<String>,
}

/// Which of them are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// All.
    All,
    /// Those that execute servers and services: the others have been named in an earlier report of the run.
    Executed,
}

/// What the evidence says of them: by the name of their file, with path, content and version.
///
/// # Errors
/// Exit 20, when a variable is not what it should be; 40, when there is no cargo.
pub(super) fn programs(
    cx: &SmokeContext,
    inside: &Environment,
    root: i32,
    named: Named,
) -> Result<Value, Failure> {
    let cache_at = cx.host.get::<STELAE_CACHE_HOME>()?.join(CACHE);
    let mut known: BTreeMap<Utf8PathBuf, HostProgram> =
        read_untrusted_json(&cache_at, limits::RECORD).unwrap_or_default();
    let cargo = programs::find("cargo", inside.get::<PATH>()?.as_str())?;
    let mut paths = match named {
        Named::All => BTreeSet::from([cx.git.program().to_owned(), cargo.clone()]),
        Named::Executed => BTreeSet::new(),
    };
    let bin = cx.sandbox.bin_dir();
    let executed = tree::descendants(root).into_iter().filter_map(|row| tree::executed(row.pid));
    paths.extend(executed.map(|(path, _)| path).filter(|path| !path.starts_with(&bin)));
    let mut described = BTreeMap::new();
    let mut news = false;
    for path in paths {
        let Ok(real) = path.canonicalize_utf8() else { continue };
        let unchanged = |known: &mut HostProgram| {
            let was = known.sealed.identity;
            known.sealed.is_unchanged().is_ok_and(|unchanged| unchanged && known.sealed.identity == was)
        };
        if !known.get_mut(&real).is_some_and(unchanged) {
            let Ok(sealed) = Sealed::of(&real) else { continue };
            let version = version(cx, inside, &path, &real)?;
            known.insert(real.clone(), HostProgram { sealed, version });
            news = true;
        }
        let Some(program) = known.get(&real) else { continue };
        // What it says depends on the toolchain that rustup has been told to use, and so is asked for each time.
        let version =
            if path == cargo { ask(cx, &cargo_of(cx, inside, &cargo)?) } else { program.version.clone() };
        let name = path.file_name().unwrap_or(path.as_str()).to_owned();
        let text = json!({"path": path, "file": real, "sha256": program.sealed.sha256, "version": version});
        described.insert(name, text);
    }
    if news {
        while known.len() > MOST {
            known.pop_first();
        }
        // It saves reading the next time. Where it cannot be written, they are read again.
        replace_json(&cache_at, &known).ok();
    }
    Ok(json!(described))
}

/// What a program says to `--version`, if it is one that is known to.
fn version(
    cx: &SmokeContext,
    inside: &Environment,
    path: &Utf8Path,
    real: &Utf8Path,
) -> Result<Option<String>, Failure> {
    let base = Base::from_environment(inside)?;
    let (program, cwd) = (path.to_owned(), cx.sandbox.repo());
    let invocation = match real.file_name().unwrap_or_default() {
        name if name.starts_with("python") => {
            PYTHON.invoke(program, cwd, &base, &PythonEnv::from_environment(inside)?)
        }
        "node" => NPM.invoke(program, cwd, &base, &NpmEnv::from_environment(inside)?),
        "git" => {
            return Ok(cx.git(&cwd, &["--version"]).ok().map(|said| said.trim().to_owned()));
        }
        _ => return Ok(None),
    };
    Ok(ask(cx, &invocation))
}

fn cargo_of(cx: &SmokeContext, inside: &Environment, cargo: &Utf8Path) -> Result<Invocation, Failure> {
    let (base, env) = (Base::from_environment(inside)?, CargoEnv::from_environment(inside)?);
    Ok(CARGO.invoke(cargo.to_owned(), cx.sandbox.repo(), &base, &env))
}

/// Its answer; nothing, when it has none. That is no reason for a run to fail: it is not what is proved.
fn ask(cx: &SmokeContext, invocation: &Invocation) -> Option<String> {
    let (out, talk) = (cx.log("version-stdout"), cx.log("version"));
    let limits = Limits { deadline: cx.deadline, interrupt: &cx.interrupt, stdout: &out, stderr: &talk };
    let finished = process::run(&invocation.clone().args(["--version"]), &limits, &mut |_, _| ()).ok()?;
    let said = finished.stdout_text.trim();
    (finished.status.is_success() && !said.is_empty()).then(|| said.to_owned())
}
