//! `clone`: a real `git clone` of what is committed.

use camino::Utf8Path;
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::flow::Step;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};

use crate::files::{Readable, create_private_dirs, remove_stale, replace, spread};
use crate::smoke::context::SmokeContext;
use crate::smoke::manifest;
use crate::smoke::nonce::{remove_nonce, write_nonce};
use crate::smoke::options::IfExists;
use crate::smoke::state::{Cloned, Start};
use crate::smoke::workspace::{WORKSPACE_ID, WORKSPACES, Workspace};

/// Makes the workspace, and clones the source into it.
#[derive(Debug)]
pub(crate) struct Clone;

impl Step for Clone {
    type Context = SmokeContext;
    type Needs = Start;
    type Gives = Cloned;

    fn name(&self) -> String {
        "clone".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, Start: Start) -> Result<Cloned, Failure> {
        if !cx.plan.uncommitted.is_empty() {
            let shown: Vec<_> = cx.plan.uncommitted.iter().take(5).map(|line| line.trim()).collect();
            cx.recorder.warn(format!(
                "{} uncommitted changes of the source are not in the clone: {}",
                cx.plan.uncommitted.len(),
                shown.join(", ")
            ));
        }
        // A session that goes on has opened its workspace before anything else.
        let workspace = match cx.workspace.take() {
            Some(workspace) => workspace,
            None => {
                make_parent(cx)?;
                Workspace::create(&cx.plan.workspace, &cx.plan.run, cx.plan.if_exists)?
            }
        };
        for folder in ["bin", "config", "home", "state", "supervisor", "tmp"] {
            workspace.folder(folder)?;
        }
        let made = workspace.id()?;
        cx.workspace = Some(workspace);
        cx.keep_json(WORKSPACE_ID, &made);
        cx.register_workspace(made)?;
        let config = cx.sandbox.git_config();
        // In a workspace that is used again a server may have put a symlink there: nothing is written through it.
        replace(&config, GIT_CONFIG.as_bytes(), Readable::ByOwner).map_err(|error| {
            Failure::new(ExitCode::PrerequisiteMissing, "workspace", "git's configuration cannot be written")
                .on(config.to_string())
                .because(error.to_string())
        })?;
        let repo = cx.sandbox.repo();
        let reused = repo.exists() && cx.plan.if_exists == IfExists::Reuse;
        if reused {
            cx.recorder.note(format!("going on in the clone that is there: {repo}"));
            remove_nonce(&repo, cx.described.smoke.nonce_file.as_deref());
        } else {
            let source = &cx.plan.source;
            cx.git_with(|git, limits| git.clone_apart(source, &repo, limits, &cx.recorder))?;
        }
        let mut head = cx.git_with(|git, limits| git.head(&repo, limits, &cx.recorder))?;
        if head != cx.plan.head && cx.plan.if_exists != IfExists::Reuse {
            head = go_to_the_plan(cx, &repo, &head)?;
        }
        if head != cx.plan.head {
            return Err(Failure::new(
                ExitCode::Drift,
                "workspace-stale",
                "the clone is of another commit than the source",
            )
            .on(repo.to_string())
            .because(format!("the clone stands on {head}, the source on {}", cx.plan.head))
            .hint("--if-exists replace"));
        }
        check_fresh(cx, reused)?;
        let nonce = write_nonce(&repo, cx.described.smoke.nonce_file.as_deref())?;
        manifest::take_clone(cx)?;
        Ok(Cloned { repo, head, nonce })
    }
}

/// The source has moved on between the plan and the clone: the run is of the commit that was planned.
fn go_to_the_plan(cx: &SmokeContext, repo: &Utf8Path, head: &str) -> Result<String, Failure> {
    let planned = cx.plan.head.as_str();
    cx.recorder.note(format!("the source has moved on to {head} since the run was planned"));
    cx.git(repo, &["reset", "--quiet", "--hard", planned]).map_err(|failure| {
        Failure::new(ExitCode::Drift, "workspace-stale", "the source has lost the commit that was planned")
            .on(cx.plan.source.to_string())
            .because(format!("the plan is of {planned}, and the source stands on {head}"))
            .because(failure.log_tail.join("; "))
            .hint("start a new run: cargo xtask smoke")
    })?;
    cx.git_with(|git, limits| git.head(repo, limits, &cx.recorder))
}

/// Makes the folder of all workspaces, which the first run of a user does not have. The parent of any other is the user's.
fn make_parent(cx: &SmokeContext) -> Result<(), Failure> {
    let folder = cx.host.get::<STELAE_CACHE_HOME>()?.join(WORKSPACES);
    if cx.plan.workspace.parent() != Some(&folder) {
        return Ok(());
    }
    create_private_dirs(&folder).map(|()| spread(&folder)).map_err(|error| {
        let what = "the folder of all workspaces cannot be made";
        Failure::new(ExitCode::PrerequisiteMissing, "workspace", what)
            .on(folder.to_string())
            .because(error.to_string())
            .hint("make room, or name another folder: --workspace PATH")
    })
}

/// The only configuration that the clone's git reads: it may read a source that belongs to somebody else.
const GIT_CONFIG: &str = "[safe]\n\tdirectory = *\n";

/// That the clone is what was committed, file by file. Some sources never are: git itself writes other files than the ones that it
/// has, and no step is to be blamed for that.
///
/// # Errors
/// Exit 50: `clone-never-clean`; `git-not-clean`, of a clone that was there already.
fn check_fresh(cx: &SmokeContext, reused: bool) -> Result<(), Failure> {
    let index =
        AbsolutePath::parse(cx.sandbox.tmp().join("status-index").as_str()).map_err(Failure::unexpected)?;
    let repo = cx.sandbox.repo();
    let differences =
        cx.git_with(|git, limits| git.differences(&repo, &index, reused, limits, &cx.recorder))?;
    remove_stale(index.as_path())?;
    if differences.is_empty() {
        return Ok(());
    }
    let failure = |kind: &str, what: &str| {
        let failure = Failure::new(ExitCode::Drift, kind, what)
            .on(repo.to_string())
            .because(format!("git status says of {} files:", differences.len()));
        differences.iter().take(10).cloned().fold(failure, Failure::because)
    };
    if reused {
        let what = "the clone that is there is not what was committed";
        return Err(failure("git-not-clean", what).hint("--if-exists replace"));
    }
    let failure = failure("clone-never-clean", "a fresh clone of the source is not clean");
    let failure = line_endings(cx, &differences).into_iter().fold(failure, Failure::because);
    Err(failure.hint(
        "git add --renormalize . && git commit, or correct .gitattributes; two names that differ in case only are one file on some disks",
    ))
}

/// What git makes of the line endings of the files that differ, as far as it says so.
fn line_endings(cx: &SmokeContext, differences: &[String]) -> Vec<String> {
    let paths = differences.iter().take(10).filter_map(|line| line.get(3..));
    let args: Vec<&str> = ["ls-files", "--eol", "--"].into_iter().chain(paths).collect();
    // It only explains: git may well not know a path as it prints it.
    let said = cx.git(&cx.sandbox.repo(), &args).unwrap_or_default();
    said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}
