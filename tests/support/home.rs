//! A source with a config home and a state home of its own, for verbs that work on both.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::{Ended, Source, Xtask, private_folder};

/// A source and its homes.
#[derive(Debug)]
pub struct Home {
    /// The repository.
    pub source: Source,
    folder: TempDir,
}

impl Home {
    /// The working tree, with empty homes.
    ///
    /// # Panics
    /// When there are no temporary folders.
    pub fn new() -> Self {
        let home = Self { source: Source::of_working_tree(), folder: private_folder() };
        fs::create_dir_all(home.path().join("config")).expect("a folder");
        home
    }

    /// The folder of both homes: `config` and `state`.
    ///
    /// # Panics
    /// When temporary folders are not UTF-8.
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).expect("a UTF-8 path")
    }

    /// The rendered file.
    pub fn proxy_json(&self) -> Utf8PathBuf {
        self.path().join("config/proxy.json")
    }

    /// Runs a verb, with JSON on stdout.
    pub fn run(&self, args: &[&str]) -> Ended {
        let set = |name: &str, folder: &str| format!("{name}={}", self.path().join(folder));
        let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
        let before = ["--format", "json", "--set", &config, "--set", &state];
        let args: Vec<&str> = before.iter().chain(args).copied().collect();
        Xtask::new(self.source.path(), &args).run()
    }
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}
