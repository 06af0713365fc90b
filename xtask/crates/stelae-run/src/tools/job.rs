//! What every installer works with, and how his commands are run.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::PATH;
use stelae_model::env::{Base, Environment, Invocation, ProgramEnv as _};
use stelae_model::tools::{Pin, Version, is_unreachable, reported};
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure};

use super::stage::Stage;
use crate::deadline::Deadline;
use crate::process::{self, Finished, Limits};
use crate::programs;
use crate::record::Recorder;
use crate::signals::Interrupt;

/// One installation, by whom and until when.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Where the installer finds his registry, and his proxy.
    pub environment: &'a Environment,
    /// When it has to be over.
    pub deadline: Deadline,
    /// Ends it sooner.
    pub interrupt: &'a Interrupt,
    /// Who is told what happens.
    pub recorder: &'a Recorder,
}

impl Job<'_> {
    /// The variables that every process gets; its temporary files are part of the stage.
    pub(super) fn base(&self, stage: &Stage) -> Result<Base, Failure> {
        let temporary = AbsolutePath::parse(stage.temporary().as_str()).map_err(Failure::unexpected)?;
        Ok(Base { tmpdir: Some(temporary), ..Base::from_environment(self.environment)? })
    }

    /// A program of the host.
    ///
    /// # Errors
    /// Exit 40, `toolchain-missing`.
    pub(super) fn host(&self, program: &str, pin: &Pin) -> Result<Utf8PathBuf, Failure> {
        programs::find(program, self.environment.get::<PATH>()?.as_str()).map_err(|found| {
            let what = format!("{} is needed, and not installed", pin.kind.toolchain()[0]);
            let failure = Failure::new(ExitCode::PrerequisiteMissing, "toolchain-missing", what);
            failure
                .on(format!("{}, which {} installs", pin.what(), pin.kind.name()))
                .because(found.what)
                .hint(format!("install {} {} or newer", pin.kind.toolchain()[0], pin.at_least))
        })
    }

    /// Runs one command of an installer, and tells what it says line by line. Its output goes into `log`.
    ///
    /// # Errors
    /// Exit 10, `command-failed`; 40, `registry-unreachable`; and what [`process::run`] finds.
    pub(super) fn run(&self, invocation: &Invocation, log: &Utf8Path) -> Result<Finished, Failure> {
        self.run_into(invocation, log, log)
    }

    /// The same, for a command whose answer is read: gives its standard output, which goes into `answer`.
    pub(super) fn ask(
        &self,
        invocation: &Invocation,
        answer: &Utf8Path,
        log: &Utf8Path,
    ) -> Result<String, Failure> {
        self.run_into(invocation, answer, log)?.stdout_whole()
    }

    /// That a program is new enough, by what it says itself.
    ///
    /// # Errors
    /// Exit 40, `toolchain-too-old`; 10, when it does not say.
    pub(super) fn check_version(
        &self,
        invocation: &Invocation,
        pin: &Pin,
        log: &Utf8Path,
    ) -> Result<(), Failure> {
        let said = self.run(invocation, log)?.stdout_text;
        let program = pin.kind.toolchain()[0];
        let (Some(found), Some(least)) = (reported(&said), Version::parse(&pin.at_least)) else {
            let what = format!("{program} does not say which version it is");
            let failure = Failure::new(ExitCode::StepFailed, "toolchain-unknown", what);
            return Err(failure.on(invocation.program.to_string()).because(format!("it says {said:?}")));
        };
        if found >= least {
            return Ok(());
        }
        let what = format!("{program} is too old for {}", pin.what());
        Err(Failure::new(ExitCode::PrerequisiteMissing, "toolchain-too-old", what)
            .on(invocation.program.to_string())
            .because(format!("it is {found}"))
            .hint(format!("install {program} {least} or newer")))
    }

    fn run_into(
        &self,
        invocation: &Invocation,
        stdout: &Utf8Path,
        stderr: &Utf8Path,
    ) -> Result<Finished, Failure> {
        let limits = Limits { deadline: self.deadline, interrupt: self.interrupt, stdout, stderr };
        // An answer is for us to read, not for a person.
        let tells = |stream| stdout == stderr || stream == process::Stream::Stderr;
        let finished = process::run(invocation, &limits, &mut |stream, line| {
            if tells(stream) {
                self.recorder.line(&invocation.process, line);
            }
        });
        let ended = self.recorder.minding_leaks(finished?).success_or_failure();
        ended.map_err(|failure| self.unreachable(failure))
    }

    /// The same failure; or, when the installer says that nobody answered him, that.
    fn unreachable(&self, failure: Failure) -> Failure {
        if !is_unreachable(failure.log_tail.iter().map(String::as_str)) {
            return failure;
        }
        let what = "a registry cannot be reached";
        let unreachable = Failure::new(ExitCode::PrerequisiteMissing, "registry-unreachable", what);
        let on = failure.on.into_iter().fold(unreachable, Failure::on);
        on.because(failure.what)
            .log_tail(failure.log_tail)
            .hint("go online, or name a proxy (HTTPS_PROXY) or a registry that can be reached")
    }
}
