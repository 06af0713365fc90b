//! Installations by installers that are scripts: what they are given, what they may give, and what is left of them.

mod installers;
mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use camino::Utf8PathBuf;
use stelae_model::Failure;
use stelae_model::env::declared::STELAE_ROOT;
use stelae_model::env::{Environment, Given, Layers};

use super::{Job, Outcome, Shelf, install};
use crate::deadline::Deadline;
use crate::record::Recorder;
use crate::signals::Interrupt;

/// The digests that the pins of these tests have: characters of the right number.
pub(super) fn integrity(kind: &str) -> String {
    match kind {
        "npm" => format!("sha512-{}==", "A".repeat(86)),
        "go" => format!("h1:{}=", "B".repeat(43)),
        _ => format!("sha256:{}", "c".repeat(64)),
    }
}

/// A machine with the toolchains that a test gives it, a user's home, and a root that pins one tool, `judge`.
pub(super) struct Machine {
    _guard: tempfile::TempDir,
    pub(super) path: Utf8PathBuf,
}

impl Machine {
    /// It pins the package `judge` in version 1.0.0; `more` are further keys of the pin.
    pub(super) fn new(kind: &str, more: &str) -> Self {
        Self::pinning(kind, &integrity(kind), more)
    }

    /// The same, with a content of its own.
    pub(super) fn pinning(kind: &str, integrity: &str, more: &str) -> Self {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().canonicalize().unwrap()).unwrap();
        for folder in ["bin", "home", "root/config"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        let machine = Self { _guard: guard, path };
        machine.pin(kind, integrity, more);
        machine
    }

    /// Pins something else.
    pub(super) fn pin(&self, kind: &str, integrity: &str, more: &str) {
        let text = format!(
            "version = 1\n[tools.judge]\nabout = \"it judges\"\nkind = \"{kind}\"\npackage = \"judge\"\n\
             version = \"1.0.0\"\nintegrity = \"{integrity}\"\nprograms = [\"judge\"]\nat_least = \"1.5\"\n{more}\n"
        );
        fs::write(self.path.join("root/config/tools.toml"), text).unwrap();
    }

    /// Gives it a program: a script, which writes down how it was called.
    pub(super) fn program(&self, name: &str, script: &str) {
        let path = self.path.join("bin").join(name);
        let calls = self.path.join("calls");
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >> {calls}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// How its programs were called, those who were asked for their version left out.
    pub(super) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path.join("calls")).unwrap_or_default();
        calls.lines().filter(|call| !call.ends_with("version")).map(str::to_owned).collect()
    }

    pub(super) fn environment(&self, more: &[(&str, &str)]) -> Environment {
        let given = vec![Given::of::<STELAE_ROOT>(self.path.join("root").as_str())];
        let process = [
            ("PATH", format!("{}:/usr/bin:/bin", self.path.join("bin"))),
            ("HOME", self.path.join("home").to_string()),
            ("STELAE_CACHE_HOME", self.path.join("cache").to_string()),
        ];
        let more = more.iter().map(|&(name, value)| (name, value.to_owned()));
        let process = process.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
        Environment::resolve(&Layers { given, process, ..Layers::default() }).unwrap()
    }

    pub(super) fn shelf(&self) -> Shelf {
        Shelf::open(&self.environment(&[])).unwrap()
    }

    /// Installs it.
    pub(super) fn install(&self) -> Result<Outcome, Failure> {
        self.install_with(&[], Deadline::after(Duration::from_secs(60)))
    }

    pub(super) fn install_with(&self, more: &[(&str, &str)], deadline: Deadline) -> Result<Outcome, Failure> {
        let environment = self.environment(more);
        let (interrupt, recorder) = (Interrupt::never(), Recorder::to_listeners(Vec::new()));
        let job = Job { environment: &environment, deadline, interrupt: &interrupt, recorder: &recorder };
        install(&Shelf::open(&environment).unwrap(), "judge", &job)
    }

    /// That there is no installation, and nothing of one.
    pub(super) fn assert_nothing(&self) {
        let failure = self.shelf().program("judge").unwrap_err();
        assert_eq!(failure.kind, "tool-not-installed");
        assert_eq!(failure.hint.as_deref(), Some("cargo xtask tools install judge"));
        assert_eq!(self.entries(), [".lock"]);
    }

    /// What is in the tool's folder, by name.
    pub(super) fn entries(&self) -> Vec<String> {
        let entries = self.path.join("cache/tools/judge").read_dir_utf8().unwrap();
        let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
        entries.sort();
        entries
    }

    /// A node of this version, and an npm that installs a package of this content.
    pub(super) fn npm(&self, version: &str, integrity: &str) {
        self.npm_of(version, &[("judge", integrity)]);
    }

    /// The same with several packages, each with its content.
    pub(super) fn npm_of(&self, version: &str, packages: &[(&str, &str)]) {
        let entry = |(name, content): &(&str, &str)| {
            format!("\"node_modules/{name}\": {{\"integrity\": \"{content}\"}}")
        };
        let lock = packages.iter().map(entry).collect::<Vec<_>>().join(", ");
        self.program("node", &format!("echo v{version}"));
        self.program(
            "npm",
            &format!(
                "[ $1 = rebuild ] && exit 0\nmkdir -p node_modules/.bin && cp /bin/true node_modules/.bin/judge\n\
                 echo '{{\"packages\": {{{lock}}}}}' > package-lock.json"
            ),
        );
    }
}
