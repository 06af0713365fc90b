//! Sources to clone: a repository with the working tree's files, in which a test puts its fault and commits it.

use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::{cache, root, runs};

/// A git repository in a folder of its own.
#[derive(Debug)]
pub struct Source {
    folder: TempDir,
}

impl Drop for Source {
    /// Workspaces that its runs have kept, as they should, go with it.
    fn drop(&mut self) {
        for run in runs(self.path()) {
            fs::remove_dir_all(cache().join("workspaces").join(run)).ok();
        }
    }
}

impl Source {
    /// The working tree as it is: tracked files, and new ones that are not ignored, in one commit.
    ///
    /// # Panics
    /// When git or the disk fails.
    pub fn of_working_tree() -> Self {
        let source = Self { folder: tempfile::tempdir().expect("a folder") };
        let listed = git(&root(), &["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let (from, to) = (root().join(name), source.path().join(name));
            // Listed, and deleted in the working tree.
            if from.is_file() {
                fs::create_dir_all(to.parent().expect("a file has a folder")).expect("a folder");
                fs::copy(from, to).expect("a copy");
            }
        }
        git(source.path(), &["init", "--quiet", "--initial-branch", "main"]);
        source.commit();
        source
    }

    /// Its root.
    ///
    /// # Panics
    /// When temporary folders are not UTF-8.
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).expect("a UTF-8 path")
    }

    /// Changes a file, which must change by that, and commits it.
    ///
    /// # Panics
    /// When the text to replace is not in the file.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(from), "{file} does not contain {from:?}");
        fs::write(&path, text.replace(from, to)).expect("a write");
        self.commit();
    }

    /// Writes a file, and commits it.
    ///
    /// # Panics
    /// When git or the disk fails.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        fs::write(path, text).expect("a write");
        self.commit();
    }

    /// Writes a file and commits it alone: what else is tracked stays as it is, whatever the file says of it.
    ///
    /// # Panics
    /// When git or the disk fails.
    pub fn write_without_adding(&self, file: &str, text: &str) {
        fs::write(self.path().join(file), text).expect("a write");
        git(self.path(), &["add", file]);
        git(self.path(), &["commit", "--quiet", "--message", "test", "--only", file]);
    }

    /// Path of a run's folder, from its id.
    pub fn run_folder(&self, run: &str) -> Utf8PathBuf {
        self.path().join("target/xtask/runs").join(run)
    }

    fn commit(&self) {
        git(self.path(), &["add", "--all"]);
        git(self.path(), &["commit", "--quiet", "--allow-empty", "--message", "test"]);
    }
}

fn git(folder: &Utf8Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    // A hook of git's may run these tests.
    for name in
        ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"]
    {
        command.env_remove(name);
    }
    let output = command
        .args(["-c", "user.name=test", "-c", "user.email=test@test.invalid", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(folder)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("git's answers are UTF-8")
}
