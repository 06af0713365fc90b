//! `clone`: a real `git clone` of what is committed.

use camino::Utf8Path;
use stelae_model::flow::Step;
use stelae_model::value::digest;
use stelae_model::{ExitCode, Failure};

use crate::smoke::context::SmokeContext;
use crate::smoke::options::IfExists;
use crate::smoke::state::{Cloned, Start};
use crate::smoke::workspace::Workspace;

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
            None => Workspace::create(&cx.plan.workspace, &cx.plan.run, cx.plan.if_exists)?,
        };
        for folder in ["bin", "config", "home", "state", "supervisor", "tmp"] {
            workspace.folder(folder)?;
        }
        cx.workspace = Some(workspace);
        let config = cx.sandbox.git_config();
        std::fs::write(&config, GIT_CONFIG).map_err(|error| {
            Failure::new(ExitCode::PrerequisiteMissing, "workspace", "git's configuration cannot be written")
                .on(config.to_string())
                .because(error.to_string())
        })?;
        let repo = cx.sandbox.repo();
        if repo.exists() && cx.plan.if_exists == IfExists::Reuse {
            cx.recorder.note(format!("going on in the clone that is there: {repo}"));
        } else {
            let source = cx.plan.source.clone();
            // No template: nobody's hooks and nobody's list of what is ignored.
            cx.git(
                &source,
                &["clone", "--quiet", "--no-tags", "--template=", source.as_str(), repo.as_str()],
            )?;
        }
        let head = cx.git_with(|git, limits| git.head(&repo, limits, &cx.recorder))?;
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
        let refs = refs(cx)?;
        let private = private_state(&repo);
        Ok(Cloned { repo, head, refs, private })
    }
}

/// The only configuration that the clone's git reads: it may read a source that belongs to somebody else.
const GIT_CONFIG: &str = "[safe]\n\tdirectory = *\n";

/// The files in which git is told to look away, with their digests.
pub(super) fn private_state(repo: &Utf8Path) -> String {
    let files = [".git/config", ".git/info/exclude", ".git/info/attributes", ".git/info/sparse-checkout"];
    let line = |file: &&str| match std::fs::read_to_string(repo.join(file)) {
        Ok(text) => format!("{file} {}\n", digest(&text)),
        Err(_) => format!("{file} -\n"),
    };
    files.iter().map(line).collect()
}

/// All references of the clone, with what they point at.
pub(super) fn refs(cx: &SmokeContext) -> Result<String, Failure> {
    cx.git(&cx.sandbox.repo(), &["for-each-ref", "--format=%(refname) %(objectname)"])
}
