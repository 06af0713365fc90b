//! The write protection, as the kernel has it: a program is started behind it, and tries every way into a home.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;
use stelae_tests::{programs, root};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;
/// What succeeds without the protection, for each user: else the refusals show nothing.
const REAL: [&str; 9] = [
    "append",
    "create",
    "ssh",
    "chmod",
    "symlink",
    "descriptor",
    "folder-descriptor",
    "started-in",
    "current-folder",
];

/// A home, and a folder beside it that stays writable.
struct Home {
    folder: TempDir,
    user: u32,
}

impl Home {
    fn of(user: u32) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), user };
        // Spaces are escaped where the kernel lists mounts.
        for folder in ["ho me/sub", "ho me/run", "work"] {
            fs::create_dir_all(home.path(folder)).unwrap();
        }
        fs::write(home.path("ho me/.bashrc"), "mine\n").unwrap();
        for path in ["", "ho me", "ho me/sub", "ho me/run", "ho me/.bashrc", "work"] {
            chown(home.path(path), Some(user), Some(user)).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::from_path_buf(self.folder.path().canonicalize().unwrap()).unwrap().join(name)
    }

    fn protection(&self, lock: &str) -> String {
        json!({
            "read_only": [self.path("ho me")],
            "writable": [self.path("work"), self.path("ho me/run")],
            "replaced": [{"folder": self.path("ho me/sub"), "by": self.path("work")}],
            "inherited": [],
            "lock": lock,
        })
        .to_string()
    }

    /// Runs this in the home, with two descriptors into it, as its user.
    fn run(&self, words: &[&str]) -> Output {
        let home = self.path("ho me");
        let user = self.user.to_string();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 8<\"$0\" 9>>\"$0/.bashrc\"; exec \"$@\"", home.as_str()]);
        if self.user != rustix::process::geteuid().as_raw() {
            command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.args(words).current_dir(&home).output().unwrap()
    }

    fn run_protected(&self, words: &[&str]) -> Output {
        let protection = self.protection("user-namespace");
        let before = [programs().xtask.as_str(), "--write-protected", &protection, "--"];
        self.run(&[&before, words].concat())
    }

    fn attack(&self, run: impl Fn(&Self, &[&str]) -> Output) -> Vec<(String, bool)> {
        let (script, home, work) = (self.path("work/attack.sh"), self.path("ho me"), self.path("work"));
        fs::copy(root().join("tests/process/attack.sh"), &script).unwrap();
        let output = run(self, &["/bin/sh", script.as_str(), home.as_str(), work.as_str()]);
        let text = String::from_utf8(output.stdout).unwrap();
        let attempts: Vec<_> = text
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .map(|words| (words[1].to_owned(), words[2] == "done"))
            .collect();
        assert!(attempts.len() > 20, "{text}{}", String::from_utf8_lossy(&output.stderr));
        attempts
    }
}

/// Whether this user may start the program, and is not root, which can become any user.
fn may_start(user: u32) -> bool {
    let home = Home::of(user);
    let may = home.run(&[programs().xtask.as_str(), "--version"]).status.success();
    if !may {
        let text = format!("skipped: {user} may not start {}\n", programs().xtask);
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    may
}

fn users() -> Vec<u32> {
    let us = rustix::process::geteuid();
    let mut users = vec![us.as_raw()];
    users.extend((us.is_root() && may_start(NOBODY)).then_some(NOBODY));
    users
}

#[test]
fn no_way_leads_into_a_protected_home() {
    for user in users() {
        let home = Home::of(user);
        for (attempt, done) in home.attack(Home::run_protected) {
            // The folder in the place of another one is not the one below it.
            assert_eq!(done, ["own", "mount-below"].contains(&attempt.as_str()), "{attempt} as {user}");
        }
        assert_eq!(fs::read_to_string(home.path("ho me/.bashrc")).unwrap(), "mine\n");
        assert_eq!(names(&home.path("ho me")), [".bashrc", "run", "sub"]);
        assert_eq!(names(&home.path("ho me/sub")), Vec::<String>::new());
        assert!(home.path("work/file").exists());
        // The attempts are real ones.
        let home = Home::of(user);
        let attempts = home.attack(Home::run);
        for real in REAL {
            assert!(attempts.contains(&(real.to_owned(), true)), "{real} as {user}: {attempts:?}");
        }
    }
}

fn names(folder: &Utf8Path) -> Vec<String> {
    let entries = folder.read_dir_utf8().unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_owned()).collect();
    names.sort();
    names
}

/// A mount in the home is read-only, too; one that is made for this alone, and seen by nothing else.
#[test]
fn what_is_mounted_in_a_home_is_protected_with_it() {
    let home = Home::of(rustix::process::geteuid().as_raw());
    let (run, protection) = (home.path("ho me/run"), home.protection("user-namespace"));
    let script =
        "mount -t tmpfs none \"$0\" && mkdir \"$0/deep\" && mount -t tmpfs none \"$0/deep\" && exec \"$@\"";
    let deep = home.path("ho me/sub/deep");
    let sub = home.path("ho me/sub");
    let protection = protection.replace(&run.to_string(), home.path("work").as_str());
    let without: serde_json::Value = serde_json::from_str(&protection).unwrap();
    let mut without = without;
    without["replaced"] = json!([]);
    let mut words = vec!["unshare", "--mount"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    let without = without.to_string();
    words.extend([
        "/bin/sh",
        "-c",
        script,
        sub.as_str(),
        programs().xtask.as_str(),
        "--write-protected",
        &without,
    ]);
    words.extend(["--", "/bin/sh", "-c", "for i; do echo x >\"$i/f\" && echo wrote; done; echo end", "sh"]);
    words.extend([sub.as_str(), deep.as_str()]);
    let output = home.run(&words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "end\n", "{said}");
    assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
}

#[test]
fn the_program_is_what_was_asked_for_and_nothing_of_the_launcher_is_left() {
    for user in users() {
        let home = Home::of(user);
        let script = "echo $$ $(id -u) $(pwd); echo run >\"$1/x\"; ls /proc/self/fd | wc -l; exit 7";
        let output = home.run_protected(&["/bin/sh", "-c", script, "sh", home.path("ho me/run").as_str()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{said}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!(" {user} {}\n", home.path("ho me"))), "{text}");
        // The three streams, and the one by which `ls` reads.
        assert!(text.ends_with("\n4\n"), "{text}");
        assert_eq!(fs::read_to_string(home.path("ho me/run/x")).unwrap(), "run\n");
    }
}

/// A protection that is not whole is none: the program does not run.
#[test]
fn what_cannot_be_protected_is_not_started() {
    let home = Home::of(rustix::process::geteuid().as_raw());
    let ran = home.path("work/ran");
    let start = |protection: &str, program: &str| {
        let output = home.run(&[
            programs().xtask.as_str(),
            "--write-protected",
            protection,
            "--",
            program,
            ran.as_str(),
        ]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let good = home.protection("user-namespace");
    for (protection, says) in [
        (good.replace("ho me\"", "no such\""), "no such"),
        (good.replace("/work\"", "/no work\""), "no work"),
        (good.replace("read_only", "readonly"), "readonly"),
        ("{}".to_owned(), "missing field"),
    ] {
        let (code, said) = start(&protection, "/bin/touch");
        assert_eq!(code, Some(125), "{protection}: {said}");
        assert!(said.contains(says), "{protection}: {said}");
    }
    let (code, said) = start(&good, "/no/such/program");
    assert_eq!((code, said.contains("/no/such/program")), (Some(125), true), "{said}");
    assert!(!ran.exists());
    let (code, said) = start(&good, "/bin/touch");
    assert_eq!((code, ran.exists()), (Some(0), true), "{said}");
}
