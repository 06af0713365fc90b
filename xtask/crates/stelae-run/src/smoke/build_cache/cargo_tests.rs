//! Warm builds of a small workspace, by the real cargo: what comes out is what a cold build gives.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::{Environment, Invocation, Layers};
use tempfile::TempDir;

use super::{BuildCache, Prepared, WorkTree};
use crate::deadline::Deadline;
use crate::git::Git;
use crate::process::{self, Limits};
use crate::record::Recorder;
use crate::signals::Interrupt;

/// A busy machine builds slowly.
const LIMIT: Duration = Duration::from_secs(600);

/// Reads what cargo does not know of, and uses again what it finds in its folder.
const SCRIPT: &str = r#"
use std::{env, fs, path::Path};
use std::os::unix::fs::PermissionsExt;
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut things: Vec<_> = fs::read_dir("things").map(|all| all.flatten().collect()).unwrap_or_default();
    things.sort_by_key(|entry| entry.file_name());
    let things: Vec<_> = things.iter().map(|entry| fs::read_to_string(entry.path()).unwrap()).collect();
    let mode = fs::metadata("tool").unwrap().permissions().mode() & 0o111 != 0;
    let read = |path: &str| fs::read_to_string(path).unwrap_or("none".into());
    let seen = format!("{},{},{},{}", read("data"), read("../shared/data"), things.join("+"), mode);
    println!("cargo:rustc-env=SEEN={seen}");
    let kept = Path::new(&env::var("OUT_DIR").unwrap()).join("kept");
    if !kept.exists() {
        fs::write(&kept, read("data")).unwrap();
    }
}
"#;
const MAIN: &str = r#"
mod linked;
fn main() {
    let kept = include_str!(concat!(env!("OUT_DIR"), "/kept"));
    print!("{} {} {} {} {}", env!("SEEN"), kept, linked::VALUE, part::VALUE, include_str!("../../notes"));
}
"#;

/// A source, and the cache that its clones are built with.
struct Lab {
    folder: TempDir,
    clones: u32,
}

/// What came of a build.
struct Came {
    said: String,
    prepared: Prepared,
    written: Vec<String>,
    compiled: Vec<String>,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap(), clones: 0 };
        fs::create_dir(lab.path("source")).unwrap();
        lab.git("source", &["init", "--quiet"]);
        let package = |name: &str, more: &str| {
            format!("[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n{more}")
        };
        lab.write("Cargo.toml", "[workspace]\nresolver = \"2\"\nmembers = [\"app\", \"part\"]\n");
        lab.write("app/Cargo.toml", &package("app", "[dependencies]\npart = { path = \"../part\" }\n"));
        lab.write("part/Cargo.toml", &package("part", ""));
        let lock = "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.0.0\"\ndependencies = [\n \"part\",\n]\n\n\
                    [[package]]\nname = \"part\"\nversion = \"0.0.0\"\n";
        lab.write("Cargo.lock", lock);
        lab.write("part/src/lib.rs", "pub const VALUE: &str = \"part1\";\n");
        lab.write("app/build.rs", SCRIPT);
        lab.write("app/src/main.rs", MAIN);
        lab.write("app/src/a.rs", "pub const VALUE: &str = \"a\";\n");
        lab.write("app/src/b.rs", "pub const VALUE: &str = \"b\";\n");
        symlink("a.rs", lab.path("source/app/src/linked.rs")).unwrap();
        for (file, text) in [("app/data", "d1"), ("app/tool", ""), ("shared/data", "s1"), ("notes", "n1")] {
            lab.write(file, text);
        }
        lab.write("app/things/one", "1");
        lab
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    fn source(&self, name: &str) -> Utf8PathBuf {
        self.path("source").join(name)
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.source(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn limits<'a>(out: &'a Utf8Path, talk: &'a Utf8Path, interrupt: &'a Interrupt) -> Limits<'a> {
        Limits { deadline: Deadline::after(LIMIT), interrupt, stdout: out, stderr: talk }
    }

    /// Runs a program, and gives what it wrote to its two outputs.
    fn run(
        &self,
        program: &str,
        cwd: &str,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Result<[String; 2], String> {
        let host = |name: &str| std::env::var(name).unwrap_or_default();
        let path = host("PATH");
        let program = match program.contains('/') {
            true => program.into(),
            false => crate::programs::find(program, &path).unwrap(),
        };
        let home = self.path("home");
        let own_home = host("HOME");
        let (cargo, rustup) = (format!("{own_home}/.cargo"), format!("{own_home}/.rustup"));
        let or = |name: &str, other: String| std::env::var(name).unwrap_or(other);
        let (cargo, rustup) = (or("CARGO_HOME", cargo), or("RUSTUP_HOME", rustup));
        let mut all = vec![("PATH", path.as_str()), ("HOME", home.as_str()), ("GIT_CONFIG_NOSYSTEM", "1")];
        all.extend([("CARGO_HOME", cargo.as_str()), ("RUSTUP_HOME", rustup.as_str())]);
        all.extend(env);
        let invocation =
            Invocation::for_test("lab", program, self.path(cwd), &all).args(args.iter().copied());
        let (out, talk) = (self.path("out.log"), self.path("talk.log"));
        for log in [&out, &talk] {
            fs::remove_file(log).ok();
        }
        let finished =
            process::run(&invocation, &Self::limits(&out, &talk, &Interrupt::never()), &mut |_, _| ())
                .unwrap();
        let said = [finished.stdout_text.clone(), finished.stderr_text.clone()];
        finished.success_or_failure().map(|_| said).map_err(|failure| failure.to_string())
    }

    fn git(&self, cwd: &str, args: &[&str]) {
        let who = ["-c", "user.name=lab", "-c", "user.email=lab@lab.invalid", "-c", "commit.gpgsign=false"];
        self.run("git", cwd, &[], &[&who[..], args].concat()).unwrap();
    }

    fn commit(&self) {
        self.git("source", &["add", "--all"]);
        self.git("source", &["commit", "--quiet", "--allow-empty", "--message", "lab"]);
    }

    /// Commits the source, clones it, and builds the clone warm.
    fn try_build(&mut self, env: &[(&str, &str)]) -> (Result<String, String>, Came) {
        self.commit();
        self.clones += 1;
        let clone = format!("clone{}", self.clones);
        self.git(".", &["clone", "--quiet", "source", &clone]);
        let repo = self.path(&clone);
        let never = Interrupt::never();
        let cache =
            BuildCache::lock(&self.path("cache"), Deadline::after(LIMIT), &never, &mut || {}).unwrap();
        let process = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let (out, talk) = (self.path("git-out.log"), self.path("git.log"));
        let (limits, quiet) = (Self::limits(&out, &talk, &never), Recorder::to_listeners(Vec::new()));
        let git = Git::find(&host).unwrap();
        let (head, tree) =
            (git.head(&repo, &limits, &quiet).unwrap(), git.tree(&repo, &limits, &quiet).unwrap());
        let prepared = cache.prepare(&repo, &head, &tree).unwrap();
        let sources = WorkTree::look(repo.as_std_path()).unwrap();
        let target = cache.target();
        let mut all = vec![("CARGO_TARGET_DIR", target.as_str()), ("CARGO_BUILD_BUILD_DIR", target.as_str())];
        all.extend(env);
        let built = self.run("cargo", &clone, &all, &["build", "--locked", "--offline"]);
        let written = sources.written().unwrap();
        cache.conclude(!written.is_empty()).unwrap();
        let talk = built.as_ref().map_or_else(Clone::clone, |said| said[1].clone());
        let compiled = talk.lines().filter_map(|line| line.trim().strip_prefix("Compiling "));
        let compiled = compiled.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
        let said = built.and_then(|_| self.run(target.join("debug/app").as_str(), ".", &[], &[]));
        let said = said.map(|said| said[0].clone());
        let came = Came { said: said.clone().unwrap_or_default(), prepared, written, compiled };
        (said, came)
    }

    fn build(&mut self) -> Came {
        self.build_with(&[])
    }

    fn build_with(&mut self, env: &[(&str, &str)]) -> Came {
        let (said, came) = self.try_build(env);
        said.unwrap();
        came
    }
}

#[test]
fn a_warm_build_gives_what_a_cold_one_gives() {
    let mut lab = Lab::new();
    let came = lab.build();
    assert_eq!((came.said.as_str(), came.prepared.is_warm), ("d1,s1,1,false d1 a part1 n1", false));
    // Nothing that a package consists of: nothing is compiled. (The script may ask git, so it is run.)
    lab.write("part/src/lib.rs", "pub const VALUE: &str = \"part2\";\n");
    assert_eq!(lab.build().said, "d1,s1,1,false d1 a part2 n1");
    fs::remove_file(lab.source("app/src/linked.rs")).unwrap();
    symlink("b.rs", lab.source("app/src/linked.rs")).unwrap();
    assert_eq!(lab.build().said, "d1,s1,1,false d1 b part2 n1", "the target of a link");
    lab.write("app/data", "d2");
    assert_eq!(lab.build().said, "d2,s1,1,false d2 b part2 n1", "an input of a script, and what it had kept");
    lab.write("shared/data", "s2");
    assert_eq!(lab.build().said, "d2,s2,1,false d2 b part2 n1", "an input outside of every package");
    lab.write("notes", "n2");
    assert_eq!(lab.build().said, "d2,s2,1,false d2 b part2 n2", "an included file outside of every package");
    fs::write(lab.source("app/things").as_std_path().join(OsStr::from_bytes(b"\xff")), "2").unwrap();
    assert_eq!(lab.build().said, "d2,s2,1+2,false d2 b part2 n2", "a name that is no text");
    fs::write(lab.source("app/things").as_std_path().join(OsStr::from_bytes(b"\xff")), "3").unwrap();
    assert_eq!(lab.build().said, "d2,s2,1+3,false d2 b part2 n2", "a change under such a name");
    fs::remove_file(lab.source("app/things/one")).unwrap();
    assert_eq!(lab.build().said, "d2,s2,3,false d2 b part2 n2", "a file that is gone");
    fs::set_permissions(lab.source("app/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(lab.build().said, "d2,s2,3,true d2 b part2 n2", "a mode");
}

#[test]
fn what_an_earlier_compiler_or_flag_has_built_is_not_taken_for_what_is_built_now() {
    let mut lab = Lab::new();
    let (first, second) = ([("RUSTFLAGS", "--cfg first")], [("RUSTFLAGS", "--cfg second")]);
    let value = |lab: &Lab, value: &str| {
        lab.write("part/src/lib.rs", &format!("pub const VALUE: &str = \"{value}\";\n"));
    };
    value(&lab, "old");
    assert!(lab.build_with(&first).said.contains(" old "));
    value(&lab, "new");
    assert!(lab.build_with(&second).said.contains(" new "));
    // Nothing differs from the build before; what lies in the folder for these flags is older than that.
    assert!(lab.build_with(&first).said.contains(" new "));
    // And it is warm, once it was built.
    let came = lab.build_with(&first);
    assert!(!came.compiled.contains(&"part".to_owned()), "{:?}", came.compiled);
}

#[test]
fn what_is_in_no_package_and_no_script_reads_builds_nothing() {
    let mut lab = Lab::new();
    fs::remove_file(lab.source("app/build.rs")).unwrap();
    lab.write(
        "app/src/main.rs",
        "mod linked;\nfn main() { print!(\"{}{}\", linked::VALUE, part::VALUE); }\n",
    );
    assert_eq!(lab.build().said, "apart1");
    lab.write("config/stack.toml", "# other\n");
    lab.write("notes", "n3");
    let came = lab.build();
    assert_eq!(
        (came.said.as_str(), came.prepared.changed, came.compiled),
        ("apart1", Vec::new(), Vec::new())
    );
    // What is cargo's for the whole workspace concerns every package.
    lab.write(".cargo/config.toml", "[build]\nrustflags = [\"--cfg=third\"]\n");
    assert_eq!(lab.build().prepared.changed, ["app", "part"]);
    // A module that vanished is missed.
    fs::remove_file(lab.source("part/src/lib.rs")).unwrap();
    assert!(lab.try_build(&[]).0.is_err());
}

#[test]
fn after_a_build_that_writes_into_its_sources_every_package_is_built_anew() {
    let mut lab = Lab::new();
    lab.write(".gitignore", "gen.rs\n");
    lab.write(
        "app/build.rs",
        "fn main() { std::fs::write(\"src/gen.rs\", \"pub const VALUE: u8 = 7;\").unwrap(); }\n",
    );
    lab.write("app/src/main.rs", "mod gen;\nfn main() { print!(\"{}\", gen::VALUE); }\n");
    for run in 0..3 {
        let came = lab.build();
        let changed = came.prepared.changed.len();
        assert_eq!((came.said.as_str(), changed), ("7", came.prepared.packages), "run {run}");
        assert_eq!(came.written, ["app/src/gen.rs (added)"], "run {run}");
    }
    // Once it no longer does, the next build is the last of these.
    lab.write("app/build.rs", "fn main() {}\n");
    lab.write("app/src/main.rs", "fn main() { print!(\"8\"); }\n");
    let changed = [lab.build().prepared.changed.len(), lab.build().prepared.changed.len()];
    assert_eq!(changed, [2, 1], "the package with a script is concerned by every commit");
}

#[test]
fn what_a_build_writes_is_seen_whatever_it_does_to_the_times() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("src/file");
    fs::create_dir_all(folder.path().join("src")).unwrap();
    fs::create_dir_all(folder.path().join(".git")).unwrap();
    fs::write(&file, "a").unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let look = || WorkTree::look(folder.path()).unwrap();
    let tree = look();
    fs::write(folder.path().join(".git/index"), "git's own").unwrap();
    assert_eq!(tree.written().unwrap(), Vec::<String>::new());
    fs::write(&file, "b").unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(tree.written().unwrap(), ["src/file (changed)"]);
    let tree = look();
    fs::remove_file(&file).unwrap();
    symlink("nowhere", folder.path().join("link")).unwrap();
    assert_eq!(tree.written().unwrap(), ["src/file (removed)", "link (added)"]);
    let tree = look();
    fs::create_dir(folder.path().join("empty")).unwrap();
    fs::set_permissions(folder.path().join("src"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(tree.written().unwrap(), ["src (changed)", "empty (added)"]);
    assert!(Path::new(&file).parent().unwrap().is_dir());
}
