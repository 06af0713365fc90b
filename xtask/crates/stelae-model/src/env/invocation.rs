//! What is needed to start one process, decided before anything is started.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;

/// A process to start: program, arguments, folder and its **whole** environment. Nothing is inherited.
///
/// Only `Program` makes one, from the variables that the program declares; so a process that lacks
/// a variable cannot be described.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Label of the process in logs and evidence (`gateway`, `git`); also handed to it as `STELAE_PROCESS`.
    pub process: String,
    /// Absolute path of the program.
    pub program: Utf8PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Working directory.
    pub cwd: Utf8PathBuf,
    /// What is started in place of the program, and becomes it: the words before the program's own.
    pub launcher: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Invocation {
    pub(super) fn new(
        process: &str,
        program: Utf8PathBuf,
        cwd: Utf8PathBuf,
        environment: BTreeMap<String, String>,
    ) -> Self {
        Self {
            process: process.to_owned(),
            program,
            args: Vec::new(),
            cwd,
            launcher: Vec::new(),
            environment,
        }
    }

    /// For tests of what starts processes: an invocation of anything, with any environment.
    #[doc(hidden)]
    pub fn for_test(process: &str, program: Utf8PathBuf, cwd: Utf8PathBuf, env: &[(&str, &str)]) -> Self {
        let environment = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self::new(process, program, cwd, environment)
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Starts the program by another one, which becomes it.
    #[must_use]
    pub fn launched_by(mut self, launcher: Vec<String>) -> Self {
        self.launcher = launcher;
        self
    }

    /// What is started: the launcher, if there is one, with the program and its arguments as its last arguments.
    pub fn words(&self) -> (&str, impl Iterator<Item = &str>) {
        let own = std::iter::once(self.program.as_str()).chain(self.args.iter().map(String::as_str));
        let mut words = self.launcher.iter().map(String::as_str).chain(own);
        // There is always the program.
        (words.next().unwrap_or_default(), words)
    }

    /// Puts variables of the program's own on top: what its `env_file` says. They are meant for names that nobody
    /// declared; one that overrides a declared name is passed on all the same, because that is what such a file does,
    /// and the attestation finds it.
    #[must_use]
    pub fn own_variables(mut self, own: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(own);
        self
    }

    /// The environment, sorted by name.
    pub fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }
}
