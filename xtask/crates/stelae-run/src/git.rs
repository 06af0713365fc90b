//! git, as bounded commands. What it says is compared by content, never by file times.
//!
//! It starts nothing, neither in the source nor in the clone: no hook, no watcher of files, no filter that a configuration
//! names. It finds its repository by the folder that it is started in, whatever the caller's `GIT_DIR` says.

mod apart;
mod committed;

pub use committed::Committed;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::PATH;
use stelae_model::env::programs::GIT;
use stelae_model::env::{Base, Environment, GitEnv, ProgramEnv as _};
use stelae_model::terminal::shell_word;
use stelae_model::value::{AbsolutePath, EnvValue as _, Text};
use stelae_model::{ExitCode, Failure};

use crate::files::remove_stale;
use crate::process::{self, Finished, Limits};
use crate::programs;
use crate::record::Recorder;

/// git, found once, with the environment that all its commands get.
#[derive(Debug)]
pub struct Git {
    program: Utf8PathBuf,
    base: Base,
    env: GitEnv,
}

/// What comes before every command. Another process may have written into the configuration of the clone, and the source's is
/// not asked what to start either; and no commit stands for another one, as it would not in a clone.
const OPTIONS: [&str; 5] =
    ["--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];

impl Git {
    /// Finds git.
    ///
    /// # Errors
    /// Exit 40 when it is not installed.
    pub fn find(environment: &Environment) -> Result<Self, Failure> {
        let program = programs::find("git", environment.get::<PATH>()?.as_str())?;
        Ok(Self {
            program,
            base: Base::from_environment(environment)?,
            env: GitEnv::from_environment(environment)?,
        })
    }

    /// The same program for the clone: it reads no configuration but the clone's own and `config`. What the user's or the
    /// machine's configuration ignores, filters or hooks in must not decide whether the clone is clean.
    pub fn isolated(&self, home: AbsolutePath, config: AbsolutePath) -> Result<Self, Failure> {
        let no_system = Text::parse("1").map_err(Failure::unexpected)?;
        // The home is in the workspace: above that no repository is the clone's.
        let workspace = home.as_path().parent().map(|parent| AbsolutePath::parse(parent.as_str()));
        let ceilings = workspace.transpose().map_err(Failure::unexpected)?;
        Ok(Self {
            program: self.program.clone(),
            base: Base { home, ..self.base.clone() },
            env: GitEnv {
                config_global: Some(config),
                config_nosystem: Some(no_system),
                ceilings,
                ..self.env.clone()
            },
        })
    }

    /// Its path, for the evidence.
    pub fn program(&self) -> &Utf8Path {
        &self.program
    }

    /// Runs one command in a folder, and gives its standard output.
    ///
    /// # Errors
    /// Exit 10, `command-failed`, with git's own words; and what [`process::run`] finds.
    pub fn run(
        &self,
        cwd: &Utf8Path,
        args: &[&str],
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<String, Failure> {
        self.finish(cwd, args, limits, recorder)?.stdout_whole()
    }

    /// The same where what it says need not be text: contents, and names as they are.
    ///
    /// # Errors
    /// As for [`Git::run`].
    pub(crate) fn run_bytes(
        &self,
        cwd: &Utf8Path,
        args: &[&str],
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<u8>, Failure> {
        self.finish(cwd, args, limits, recorder)?.stdout_bytes()
    }

    fn finish(
        &self,
        cwd: &Utf8Path,
        args: &[&str],
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Finished, Failure> {
        let invocation = GIT.invoke(self.program.clone(), cwd.to_owned(), &self.base, &self.env);
        let invocation = invocation.args(OPTIONS).args(args.iter().copied());
        let finished = recorder.minding_leaks(process::run(&invocation, limits, &mut |stream, text| {
            // What git says on stderr is for a person; its stdout is read by the harness.
            if stream == process::Stream::Stderr {
                recorder.line("git", text);
            }
        })?);
        finished.success_or_failure()
    }

    /// The commit that `HEAD` names.
    ///
    /// # Errors
    /// Exit 40, `not-a-repository`, when the folder is none or has no commit.
    pub fn head(&self, cwd: &Utf8Path, limits: &Limits<'_>, recorder: &Recorder) -> Result<String, Failure> {
        let top =
            self.run(cwd, &["rev-parse", "--show-toplevel", "--verify", "HEAD^{commit}"], limits, recorder);
        let text = top.map_err(|failure| not_a_repository(cwd, failure))?;
        let (top, head) = text.trim().split_once('\n').unwrap_or(("", text.trim()));
        // A folder inside some other repository is not the root of this one.
        let same = |a: &Utf8Path, b: &Utf8Path| matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if same(Utf8Path::new(top), cwd) {
            return Ok(head.to_owned());
        }
        let failure = Failure::new(
            ExitCode::PrerequisiteMissing,
            "not-a-repository",
            "the source is not the root of a git repository",
        );
        Err(failure
            .on(cwd.to_string())
            .because(format!("its repository begins at {top}"))
            .hint(format!("--source {}", shell_word(top))))
    }

    /// What differs from `HEAD`, line by line as `git status --porcelain` says it; empty when clean.
    ///
    /// Looked at twice: with the work tree's own index, and with a new one that holds no file times, so that every
    /// file is compared by content. Of a clone that others could write to (`was_used`), the filters that its configuration names
    /// are not run.
    ///
    /// # Errors
    /// What git says.
    pub fn differences(
        &self,
        cwd: &Utf8Path,
        scratch_index: &AbsolutePath,
        was_used: bool,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<String>, Failure> {
        let filters = if was_used { self.no_filters(cwd, limits, recorder)? } else { Vec::new() };
        let status =
            filters.iter().map(String::as_str).chain(["status", "--porcelain", "--untracked-files=all"]);
        let status: Vec<&str> = status.collect();
        let mut lines: Vec<String> =
            self.run(cwd, &status, limits, recorder)?.lines().map(str::to_owned).collect();
        // An index left by an earlier look would hold that look's file times.
        remove_stale(scratch_index.as_path())?;
        let fresh = Self {
            program: self.program.clone(),
            base: self.base.clone(),
            env: GitEnv { index_file: Some(scratch_index.clone()), ..self.env.clone() },
        };
        fresh.run(cwd, &["read-tree", "HEAD"], limits, recorder)?;
        lines.extend(fresh.run(cwd, &status, limits, recorder)?.lines().map(str::to_owned));
        lines.sort();
        lines.dedup();
        Ok(lines)
    }

    /// What of the work tree is not committed, line by line as `git status --porcelain` says it; files that are ignored are
    /// not named. Neither takes a lock, nor runs a filter of the user's: a file that needs one may be named without need.
    ///
    /// # Errors
    /// What git says.
    pub fn uncommitted(
        &self,
        cwd: &Utf8Path,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<String>, Failure> {
        let mut args = self.no_filters(cwd, limits, recorder)?;
        let status = ["status", "--porcelain", "--untracked-files=all", "--ignore-submodules=dirty"];
        args.extend(status.map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Ok(self.run(cwd, &args, limits, recorder)?.lines().map(str::to_owned).collect())
    }

    /// What switches the filters off that the folder's configuration names.
    fn no_filters(
        &self,
        cwd: &Utf8Path,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<String>, Failure> {
        Ok(no_filters(&self.run(cwd, &["config", "--list", "--name-only", "-z"], limits, recorder)?))
    }

    /// Every tracked entry of `HEAD`.
    ///
    /// # Errors
    /// What git says.
    pub fn tree(
        &self,
        cwd: &Utf8Path,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<TreeEntry>, Failure> {
        let listed =
            self.run_bytes(cwd, &["ls-tree", "-r", "-z", "--full-tree", "HEAD"], limits, recorder)?;
        let entry = |line: &[u8]| {
            let tab = line.iter().position(|&byte| byte == b'\t')?;
            let meta = String::from_utf8_lossy(&line[..tab]).into_owned();
            Some(TreeEntry { meta, path: OsStr::from_bytes(&line[tab + 1..]).into() })
        };
        Ok(listed.split(|&byte| byte == 0).filter_map(entry).collect())
    }
}

/// A tracked file, symbolic link or submodule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Mode, type and id of its content, as `git ls-tree` says them.
    pub meta: String,
    /// Its path below the root. Names need not be text.
    pub path: PathBuf,
}

/// What switches the filters off that a configuration has (`settings`: the names in it).
fn no_filters(settings: &str) -> Vec<String> {
    let filter = |name: &str| {
        let (filter, _) = name.strip_prefix("filter.")?.rsplit_once('.')?;
        Some(filter.to_owned())
    };
    let filters: BTreeSet<_> = settings.split('\0').filter_map(filter).collect();
    let off = ["clean=", "smudge=", "process=", "required=false"];
    let off = filters.iter().flat_map(|filter| off.map(|setting| format!("filter.{filter}.{setting}")));
    off.flat_map(|setting| ["-c".to_owned(), setting]).collect()
}

fn not_a_repository(cwd: &Utf8Path, failure: Failure) -> Failure {
    if failure.kind != "command-failed" {
        return failure;
    }
    let said: Vec<&str> =
        failure.log_tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let command = said.iter().find(|line| line.starts_with("git config "));
    let hint = match command {
        Some(command) => (*command).to_owned(),
        None => "git init && git add -A && git commit, or name another: --source PATH".to_owned(),
    };
    let what = "git does not take the source for a repository with a commit";
    let failure = Failure::new(ExitCode::PrerequisiteMissing, "not-a-repository", what).on(cwd.to_string());
    said.iter().take(5).fold(failure, |failure, line| failure.because(*line)).hint(hint)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use stelae_model::env::Layers;
    use stelae_model::value::EnvValue as _;

    use super::*;
    use crate::deadline::Deadline;
    use crate::signals::Interrupt;

    /// A workspace lies below the home of its user, who may have a repository there.
    #[test]
    fn a_clone_without_git_is_no_part_of_a_repository_further_up() {
        let (_guard, home) = crate::files::test_folder();
        let path = |name: &str| AbsolutePath::parse(home.join(name).as_str()).unwrap();
        let process = ["PATH"].map(|name| (name.to_owned(), std::env::var(name).unwrap()));
        let process = process.into_iter().chain([("HOME".to_owned(), home.to_string())]).collect();
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let git = Git::find(&host).unwrap();
        let isolated = git.isolated(path("w/home"), path("w/home/.gitconfig")).unwrap();
        fs::create_dir_all(home.join("w/repo/sub")).unwrap();
        fs::create_dir(home.join("w/home")).unwrap();
        let (out, talk, interrupt) = (home.join("out"), home.join("talk"), Interrupt::never());
        let deadline = Deadline::after(Duration::from_secs(300));
        let limits = Limits { deadline, interrupt: &interrupt, stdout: &out, stderr: &talk };
        let recorder = Recorder::to_listeners(Vec::new());
        let top = |git: &Git| {
            let asked =
                git.run(&home.join("w/repo/sub"), &["rev-parse", "--show-toplevel"], &limits, &recorder);
            asked.map(|top| top.trim().to_owned()).ok()
        };
        git.run(&home, &["init", "--quiet"], &limits, &recorder).unwrap();
        assert_eq!((top(&git), top(&isolated)), (Some(home.to_string()), None));
        git.run(&home.join("w/repo"), &["init", "--quiet"], &limits, &recorder).unwrap();
        assert_eq!(top(&isolated), Some(home.join("w/repo").to_string()));
    }
}
