//! That a run leaves its clone and its config home as they were: what is in them is taken down right after they were made, and
//! compared after every step.
//!
//! ```text
//! walk    one look at a folder
//! stat    what the system says of an entry
//! ```
//! Not looked at are git's objects, extended attributes, and file times. Two hard links to one file are two files.

mod stat;
mod walk;

use std::time::{Duration, Instant};

use camino::Utf8Path;
use stelae_model::manifest::{Changes, Declared, Difference, Manifest, compare, summary};
use stelae_model::{ExitCode, Failure};

use super::context::SmokeContext;
use super::step_names;
use crate::deadline::Deadline;
use walk::{Look, Seen, Stopped, look};

const REPO: &str = "repo";
const CONFIG: &str = "config";
/// More differences than these are not listed one by one.
const MOST_SHOWN: usize = 10;
/// The last look, after the teardown: so long at the most.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// What the clone and the config home were, and are.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Right after they were made.
    began: Manifest,
    /// The last time that they were looked at.
    now: Manifest,
    /// What has changed since, as it was declared.
    changed: Changed,
    /// The step after which that was; none, of the first look.
    looked_after: String,
    seen: Seen,
    looks: usize,
    took: Duration,
}

/// What has changed since the beginning, as it was declared: this is kept for a session that goes on.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Changed {
    /// All of it.
    changes: Changes,
    /// Only what is meant to stay.
    left: Changes,
}

/// What a step may change: for the time being, and for good.
pub(crate) type MayChange = [Declared; 2];

fn file_of(what: &str) -> String {
    format!("manifests/{}.json", what.replace(':', "-"))
}

/// Takes down what is in the clone.
///
/// # Errors
/// Exit 50 and others: what keeps it from being looked at.
pub(crate) fn take_clone(cx: &mut SmokeContext) -> Result<(), Failure> {
    let mut kept = Kept::default();
    let repo = kept.look(cx, REPO, &cx.sandbox.repo(), None, &Declared::default(), false, cx.deadline)?;
    keep(cx, REPO, &repo);
    kept.began = repo.clone();
    kept.now = repo;
    cx.kept = Some(kept);
    Ok(())
}

/// Takes down what is in the config home: from here on it is compared, too.
///
/// # Errors
/// As [`take_clone`].
pub(crate) fn take_config(cx: &mut SmokeContext) -> Result<(), Failure> {
    let mut kept = take_kept(cx, "render")?;
    let path = cx.sandbox.config_home();
    let config = kept.look(cx, CONFIG, &path, None, &Declared::default(), false, cx.deadline)?;
    keep(cx, CONFIG, &config);
    kept.began = kept.began.of_root(REPO).with(config.clone());
    kept.now = kept.now.of_root(REPO).with(config);
    cx.kept = Some(kept);
    Ok(())
}

/// That the steps since the last look changed nothing but what is declared for them, under these keys of `may_leave`. `step` is the
/// last of them.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_step(cx: &mut SmokeContext, step: &str, keys: &[&str]) -> Result<(), Failure> {
    let may_leave =
        keys.iter().fold(Declared::default(), |all, key| all.and(&cx.described.smoke.may_leave.of(key)));
    let steps = if keys.len() > 1 { keys.join(", ") } else { step.to_owned() };
    check_of(cx, step, &steps, &[Declared::default(), may_leave])
}

/// That a step changed nothing but what it may. What it did change is what the next one begins with.
///
/// # Errors
/// Exit 50: `git-not-clean`, `git-refs-changed`, `git-config-changed`, `git-state-changed` or `catalog-changed`, by what changed first.
pub(crate) fn check(cx: &mut SmokeContext, step: &str, may: &MayChange) -> Result<(), Failure> {
    check_of(cx, step, step, may)
}

/// The same of several steps, of which `step` is the last.
fn check_of(cx: &mut SmokeContext, step: &str, steps: &str, may: &MayChange) -> Result<(), Failure> {
    let mut kept = take_kept(cx, step)?;
    let all = may[0].clone().and(&may[1]);
    let now = kept.look_again(cx, &all, false, cx.deadline)?;
    let differences = compare(&kept.now, &now);
    let (declared, others): (Vec<_>, Vec<_>) =
        differences.into_iter().partition(|difference| difference.is_declared(&all));
    if !others.is_empty() {
        return Err(changed(cx, &others, &format!("after {steps}")));
    }
    // What is there and did not change this time may change another time.
    let places = declared.iter().map(|difference| difference.place.as_str());
    for unused in all.unused(&places.chain(now.entries.keys().map(String::as_str))) {
        cx.recorder.warn(format!(
            "{steps} may change {unused}, and there is none: is the declaration still needed?"
        ));
    }
    for difference in declared {
        let entry = now.get(&difference.place).cloned();
        if may[1].covers(&difference.place) {
            kept.changed.left.insert(difference.place.clone(), entry.clone());
        }
        kept.changed.changes.insert(difference.place, entry);
    }
    kept.now = now;
    step.clone_into(&mut kept.looked_after);
    cx.keep_json(&file_of(&format!("after-{step}")), &kept.changed);
    cx.kept = Some(kept);
    Ok(())
}

/// That everything is as it was, but for what was meant to stay.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_undone(cx: &mut SmokeContext, step: &str) -> Result<(), Failure> {
    check(cx, step, &MayChange::default())?;
    let kept = take_kept(cx, step)?;
    let expected = kept.began.clone().changed_by(&kept.changed.left);
    let differences = compare(&expected, &kept.now);
    if !differences.is_empty() {
        return Err(changed(cx, &differences, "when all stages were over"));
    }
    cx.recorder.note(format!(
        "the clone and the config home were looked at {} times, in {} ms: {} entries",
        kept.looks,
        kept.took.as_millis(),
        kept.now.entries.len()
    ));
    cx.kept = Some(kept);
    Ok(())
}

/// The last look, when every process of the run is gone: what was written since the first look is read anew, as what is mapped into
/// a memory can be written without a new file time. Says nothing of a run that has not looked before. `passed` are the steps of this
/// session: those since the look before may have left what is declared for them.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_last(cx: &mut SmokeContext, passed: &[String]) -> Result<(), Failure> {
    let Some(mut kept) = cx.kept.take() else { return Ok(()) };
    let since = passed.iter().rev().take_while(|step| **step != kept.looked_after);
    let may_leave =
        since.map(String::as_str).chain(["teardown"]).map(|step| cx.described.smoke.may_leave.of(step));
    let declared = may_leave.fold(Declared::default(), |all, one| all.and(&one));
    let now = kept.look_again(cx, &declared, true, Deadline::after(LAST_LOOK))?;
    let mut differences = compare(&kept.now, &now);
    differences.retain(|difference| !difference.is_declared(&declared));
    match differences.is_empty() {
        true => Ok(()),
        false => Err(changed(cx, &differences, "after the teardown")),
    }
}

/// Takes what is kept; of a session that goes on, from what the steps before this one have left.
fn take_kept(cx: &mut SmokeContext, step: &str) -> Result<Kept, Failure> {
    if let Some(kept) = cx.kept.take() {
        return Ok(kept);
    }
    let gone = |name: &str, error: &std::io::Error| {
        let what = "what the clone was is not known any more";
        Failure::new(ExitCode::PrerequisiteMissing, "not-resumable", what)
            .on(cx.folder.join(name).to_string())
            .because(error.to_string())
            .hint(format!("cargo xtask smoke --resume {} --from clone", cx.plan.run))
    };
    let read = |root: &str| -> Result<Manifest, Failure> {
        let name = file_of(root);
        cx.folder.read_json(&name).map_err(|error| gone(&name, &error))
    };
    let names = step_names();
    let before: Vec<&String> = names.iter().take_while(|name| *name != step).collect();
    let rendered = before.iter().any(|name| *name == "render");
    let began = if rendered { read(REPO)?.with(read(CONFIG)?) } else { read(REPO)? };
    let mut files = before.iter().rev().map(|name| file_of(&format!("after-{name}")));
    let changed: Changed = match files.find(|file| cx.folder.join(file).exists()) {
        Some(file) => cx.folder.read_json(&file).map_err(|error| gone(&file, &error))?,
        None => Changed::default(),
    };
    let now = began.clone().changed_by(&changed.changes);
    Ok(Kept { began, now, changed, ..Kept::default() })
}

impl Kept {
    fn look_again(
        &mut self,
        cx: &SmokeContext,
        declared: &Declared,
        anew: bool,
        deadline: Deadline,
    ) -> Result<Manifest, Failure> {
        let known = std::mem::take(&mut self.now);
        let (repo, config) = (cx.sandbox.repo(), cx.sandbox.config_home());
        let looked = self.look(cx, REPO, &repo, Some(&known), declared, anew, deadline).and_then(|now| {
            if known.get("config:").is_none() {
                return Ok(now);
            }
            Ok(now.with(self.look(cx, CONFIG, &config, Some(&known), declared, anew, deadline)?))
        });
        self.now = known;
        looked
    }

    #[expect(clippy::too_many_arguments, reason = "each is one thing that a look depends on")]
    fn look(
        &mut self,
        cx: &SmokeContext,
        root: &str,
        path: &Utf8Path,
        known: Option<&Manifest>,
        declared: &Declared,
        anew: bool,
        deadline: Deadline,
    ) -> Result<Manifest, Failure> {
        let begun = Instant::now();
        let how = Look { known, declared, anew, deadline, interrupt: &cx.interrupt };
        let looked = look(root, path, &how, &mut self.seen).map_err(|stopped| failure(cx, stopped, deadline));
        self.looks += usize::from(root == REPO);
        self.took += begun.elapsed();
        looked
    }
}

fn keep(cx: &SmokeContext, root: &str, manifest: &Manifest) {
    match serde_json::to_vec(manifest) {
        Ok(bytes) => cx.keep(&file_of(root), &bytes),
        Err(error) => cx.recorder.evidence_failed(&file_of(root), &error.into()),
    }
}

/// The failure that differences are.
fn changed(cx: &SmokeContext, differences: &[Difference], when: &str) -> Failure {
    let first = differences.first().map_or("", |difference| difference.place.as_str());
    let (kind, what) = kind_of(first);
    let root = if first.starts_with("config:") { cx.sandbox.config_home() } else { cx.sandbox.repo() };
    let failure =
        Failure::new(ExitCode::Drift, kind, what).on(root.to_string()).because(match differences.len() {
            1 => format!("{when}, 1 entry differs:"),
            several => format!("{when}, {several} entries differ:"),
        });
    let hint = "write to the state home instead; what a step may change is declared in config/smoke.toml, as may_change or may_leave";
    summary(differences, MOST_SHOWN).into_iter().fold(failure, Failure::because).hint(hint)
}

fn kind_of(place: &str) -> (&'static str, &'static str) {
    if place.starts_with("config:") {
        return ("catalog-changed", "the config home is not what it was");
    }
    let Some(git) = place.strip_prefix("repo:.git/") else {
        return ("git-not-clean", "the clone is not clean any more");
    };
    match git.split('/').next().unwrap_or_default() {
        "HEAD" | "refs" | "packed-refs" | "logs" | "ORIG_HEAD" | "FETCH_HEAD" => {
            ("git-refs-changed", "the clone's references are not what they were")
        }
        "config" | "config.worktree" | "hooks" | "info" | "objects" => {
            ("git-config-changed", "the clone's own git configuration changed")
        }
        _ => ("git-state-changed", "the state of the clone's git is not what it was"),
    }
}

fn failure(cx: &SmokeContext, stopped: Stopped, deadline: Deadline) -> Failure {
    let drift = |place: String, why: String| {
        let (kind, what) = kind_of(&place);
        Failure::new(ExitCode::Drift, kind, what).on(place).because(why)
    };
    match stopped {
        Stopped::Unstable(place) => {
            drift(place, "another process changed it while it was compared".to_owned())
        }
        Stopped::Flooded(place) => {
            drift(place, "more entries came than a comparison takes in; this is one of them".to_owned())
        }
        Stopped::Failed(place, error) => drift(place, format!("it cannot be compared: {error}")),
        Stopped::Interrupted(failure) => failure,
        Stopped::Late => {
            let what = "the comparison of the clone did not end in time";
            Failure::new(deadline.exit_code(ExitCode::StepFailed), "comparison-timed-out", what)
                .on(cx.sandbox.repo().to_string())
                .hint("raise step_s in config/smoke.toml; a clone that is read once a run should be small")
        }
    }
}

#[cfg(test)]
mod tests;
