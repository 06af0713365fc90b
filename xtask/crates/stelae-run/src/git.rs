//! git, as bounded commands. What it says is compared by content, never by file times.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::PATH;
use stelae_model::env::programs::GIT;
use stelae_model::env::{Base, Environment, GitEnv, Invocation, ProgramEnv as _};
use stelae_model::value::{AbsolutePath, EnvValue as _, Text};
use stelae_model::{ExitCode, Failure};

use crate::files::remove_stale;
use crate::process::{self, Limits};
use crate::programs;
use crate::record::Recorder;

/// git, found once, with the environment that all its commands get.
#[derive(Debug)]
pub struct Git {
    program: Utf8PathBuf,
    base: Base,
    env: GitEnv,
    /// What comes before every command.
    options: &'static [&'static str],
}

/// What the configuration of a clone may not make git start: whoever plays a stage can write into it.
const NOTHING_STARTED: [&str; 4] = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];

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
            options: &[],
        })
    }

    /// The same program for the clone: it reads no configuration but the clone's own and `config`. What the user's or the
    /// machine's configuration ignores, filters or hooks in must not decide whether the clone is clean.
    pub fn isolated(&self, home: AbsolutePath, config: AbsolutePath) -> Result<Self, Failure> {
        let no_system = Text::parse("1").map_err(Failure::unexpected)?;
        Ok(Self {
            program: self.program.clone(),
            base: Base { home, ..self.base.clone() },
            env: GitEnv { config_global: Some(config), config_nosystem: Some(no_system), ..self.env.clone() },
            options: &NOTHING_STARTED,
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
        let invocation = GIT.invoke(self.program.clone(), cwd.to_owned(), &self.base, &self.env);
        let args = self.options.iter().chain(args).copied();
        Self::finish(&invocation.args(args), limits, recorder)
    }

    fn finish(invocation: &Invocation, limits: &Limits<'_>, recorder: &Recorder) -> Result<String, Failure> {
        let finished = recorder.minding_leaks(process::run(invocation, limits, &mut |stream, text| {
            // What git says on stderr is for a person; its stdout is ours to read.
            if stream == process::Stream::Stderr {
                recorder.line("git", text);
            }
        })?);
        finished.success_or_failure()?.stdout_whole()
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
            .hint(format!("--source {top}")))
    }

    /// What differs from `HEAD`, line by line as `git status --porcelain` says it; empty when clean.
    ///
    /// Looked at twice: with the work tree's own index, and with a new one that holds no file times, so that every
    /// file is compared by content.
    ///
    /// # Errors
    /// What git says.
    pub fn differences(
        &self,
        cwd: &Utf8Path,
        scratch_index: &AbsolutePath,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<String>, Failure> {
        const STATUS: [&str; 3] = ["status", "--porcelain", "--untracked-files=all"];
        let mut lines: Vec<String> =
            self.run(cwd, &STATUS, limits, recorder)?.lines().map(str::to_owned).collect();
        // An index left by an earlier look would hold that look's file times.
        remove_stale(scratch_index.as_path())?;
        let fresh = Self {
            program: self.program.clone(),
            base: self.base.clone(),
            env: GitEnv { index_file: Some(scratch_index.clone()), ..self.env.clone() },
            options: self.options,
        };
        fresh.run(cwd, &["read-tree", "HEAD"], limits, recorder)?;
        lines.extend(fresh.run(cwd, &STATUS, limits, recorder)?.lines().map(str::to_owned));
        lines.sort();
        lines.dedup();
        Ok(lines)
    }

    /// Every tracked file of `HEAD` with the id of its content.
    ///
    /// # Errors
    /// What git says.
    pub fn tree(
        &self,
        cwd: &Utf8Path,
        limits: &Limits<'_>,
        recorder: &Recorder,
    ) -> Result<Vec<(String, String)>, Failure> {
        let text = self.run(cwd, &["ls-tree", "-r", "-z", "HEAD"], limits, recorder)?;
        let files = text.split('\0').filter_map(|entry| {
            let (meta, path) = entry.split_once('\t')?;
            Some((path.to_owned(), meta.to_owned()))
        });
        Ok(files.collect())
    }
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
