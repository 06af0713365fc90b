//! Nothing of the user's is changed by a run, whichever process calls it, and nothing of it decides but what is committed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::declared::REGISTRY;
use stelae_tests::{Ended, Source, Xtask, assert_nowhere_in, cache, private_folder, programs};
use tempfile::TempDir;

const SMOKE: &str = "config/smoke.toml";
const STACK: &str = "config/stack.toml";

/// A folder for what a test needs besides its source.
struct Beside(TempDir);

impl Beside {
    fn new() -> Self {
        Self(private_folder())
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join(name)
    }

    fn folder(&self, name: &str) -> Utf8PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A program of this name that a shell plays; `PATH` with it in front.
    fn program(&self, name: &str, script: &str) -> String {
        let bin = self.folder("bin");
        executable(&bin.join(name), script);
        format!("{bin}:{}", std::env::var("PATH").unwrap())
    }
}

fn executable(path: &Utf8Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn git(folder: &Utf8Path) -> Command {
    let mut command = Command::new("git");
    let who = ["-c", "user.name=test", "-c", "user.email=test@test.invalid", "-c", "commit.gpgsign=false"];
    command.args(who).args(["-c", "protocol.file.allow=always"]).current_dir(folder);
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_PREFIX"] {
        command.env_remove(name);
    }
    command
}

fn done(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ok(folder: &Utf8Path, args: &[&str]) -> String {
    done(git(folder).args(args).output().unwrap())
}

/// Every file below a folder, with all that it is.
fn whole(folder: &Utf8Path) -> BTreeMap<Utf8PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(path) = todo.pop() {
        let entry = path.symlink_metadata().unwrap();
        let content = match entry.file_type() {
            kind if kind.is_dir() => {
                todo.extend(path.read_dir_utf8().unwrap().map(|below| below.unwrap().into_path()));
                Vec::new()
            }
            kind if kind.is_symlink() => path.read_link_utf8().unwrap().into_string().into_bytes(),
            _ => [fs::read(&path).unwrap(), format!("{:?}", entry.modified().unwrap()).into_bytes()].concat(),
        };
        found.insert(path, (entry.mode(), content));
    }
    found
}

fn same(before: &BTreeMap<Utf8PathBuf, (u32, Vec<u8>)>, after: &BTreeMap<Utf8PathBuf, (u32, Vec<u8>)>) {
    let differs =
        |(path, is): (&Utf8PathBuf, &(u32, Vec<u8>))| (after.get(path) != Some(is)).then(|| path.clone());
    let gone: Vec<_> = before.iter().filter_map(differs).collect();
    let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(gone.is_empty() && new.is_empty(), "changed: {gone:?}, new: {new:?}");
}

/// All that a run adds to its clone, as git says it.
const NONCE: &str = "?? stelae-nonce.txt\n";

/// Clones, and stops: nothing is built.
fn until_clone(source: &Utf8Path) -> Xtask {
    Xtask::new(source, &["--format", "json", "smoke", "--until", "clone", "--keep", "never"])
}

/// The same, with a workspace that stays.
fn clone_kept(source: &Utf8Path, workspace: &Utf8Path) -> Xtask {
    let kept = ["--keep", "always", "--workspace", workspace.as_str()];
    Xtask::new(source, &["--format", "json", "smoke", "--until", "clone"]).args(&kept)
}

/// What a run has told of itself.
fn told(source: &Utf8Path, ended: &Ended) -> String {
    fs::read_to_string(source.join("target/xtask/runs").join(ended.run_id()).join("events.jsonl")).unwrap()
}

fn green(ended: &Ended) {
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// What a hook runs: the environment is git's, but for the folders.
fn hook(beside: &Beside, args: &str) -> String {
    let (tmp, home) = (beside.folder("tmp"), beside.folder("home"));
    let (said, talk) = (beside.path("said"), beside.path("talk"));
    let host = |name: &str| {
        let home = std::env::var("HOME").unwrap_or_else(|_| "/".into());
        std::env::var(name).unwrap_or_else(|_| format!("{home}/.{}", name[..name.len() - 5].to_lowercase()))
    };
    format!(
        "export CARGO_HOME={} RUSTUP_HOME={} HOME={home} TMPDIR={tmp} STELAE_CACHE_HOME={}\n\
         exec {} --format json smoke {args} > {said} 2> {talk}",
        host("CARGO_HOME"),
        host("RUSTUP_HOME"),
        cache(),
        programs().xtask,
    )
}

fn commit_with_hook(repo: &Utf8Path, beside: &Beside, args: &[&str]) {
    fs::write(repo.join("staged.txt"), "precious").unwrap();
    ok(repo, &["add", "staged.txt"]);
    let commit = ["commit", "--quiet", "--message", "with a hook"];
    let output = git(repo).args([&commit, args].concat()).output().unwrap();
    let talk = fs::read_to_string(beside.path("talk")).unwrap_or_default();
    assert!(output.status.success(), "{} {talk}", String::from_utf8_lossy(&output.stderr));
    let said = fs::read_to_string(beside.path("said")).unwrap();
    assert!(said.contains("\"exit_code\": 0") || said.contains("\"exit_code\":0"), "{said} {talk}");
    assert_eq!(ok(repo, &["show", "HEAD:staged.txt"]), "precious");
    assert_eq!(ok(repo, &["diff", "--name-only", "HEAD~1", "HEAD"]), "staged.txt\n");
    assert_eq!(ok(repo, &["status", "--porcelain", "--untracked-files=no"]), "");
    ok(repo, &["fsck", "--no-progress"]);
}

#[test]
fn a_run_in_a_hook_leaves_the_index_and_the_commit_whole() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    executable(&source.path().join(".git/hooks/pre-commit"), &hook(&beside, ""));
    commit_with_hook(source.path(), &beside, &[]);
}

#[test]
fn a_run_in_a_hook_of_a_worktree_leaves_both_indexes_whole() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    executable(&source.path().join(".git/hooks/pre-commit"), &hook(&beside, "--until clone --keep never"));
    let worktree = beside.path("worktree");
    ok(source.path(), &["worktree", "add", "--quiet", "-b", "other", worktree.as_str()]);
    let index = fs::read(source.path().join(".git/index")).unwrap();
    commit_with_hook(&worktree, &beside, &[]);
    assert_eq!(fs::read(source.path().join(".git/index")).unwrap(), index);
    // And of a commit for which git makes an index of its own.
    fs::write(worktree.join("README.md"), "changed").unwrap();
    commit_again(&worktree, &beside);
}

/// `git commit FILE`: the hook gets an index that is neither the work tree's nor what will be.
fn commit_again(repo: &Utf8Path, beside: &Beside) {
    ok(repo, &["commit", "--quiet", "--message", "one file", "README.md"]);
    assert!(fs::read_to_string(beside.path("said")).unwrap().contains("exit_code"));
    assert_eq!(ok(repo, &["show", "HEAD:README.md"]), "changed");
    assert_eq!(ok(repo, &["status", "--porcelain", "--untracked-files=no"]), "");
}

/// Every variable by which the caller could lead git or cargo somewhere else, or stand in for the harness: none reaches a
/// process of the run, and what they name stays as it was.
#[test]
fn what_the_caller_has_reaches_no_process() {
    let (source, victim, beside) = (Source::of_working_tree(), Source::of_working_tree(), Beside::new());
    let real =
        |name: &str| done(Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap());
    let mut path = String::new();
    for name in ["git", "cargo"] {
        let seen = beside.path("seen");
        path = beside.program(name, &format!("env >> {seen}\nexec {} \"$@\"", real(name).trim()));
    }
    let in_victim = |file: &str| victim.path().join(file).into_string();
    let config = beside.path("poison.gitconfig");
    fs::write(&config, "[core]\n\thooksPath = /poison\n[url \"/poison\"]\n\tinsteadOf = /\n").unwrap();
    let mut poison: BTreeMap<String, String> = REGISTRY
        .iter()
        .filter(|declared| declared.set_by.is_harness())
        .map(|declared| (declared.name.to_owned(), format!("/poison-{}", declared.name)))
        .collect();
    let others = [
        ("GIT_DIR", in_victim(".git")),
        ("GIT_COMMON_DIR", in_victim(".git")),
        ("GIT_WORK_TREE", in_victim("")),
        ("GIT_INDEX_FILE", in_victim(".git/index")),
        ("GIT_OBJECT_DIRECTORY", in_victim(".git/objects")),
        ("GIT_ALTERNATE_OBJECT_DIRECTORIES", in_victim(".git/objects")),
        ("GIT_CONFIG_GLOBAL", config.to_string()),
        ("STELAE_ROOT", in_victim("")),
        ("STELAE_CALLS", in_victim("README.md")),
        ("CARGO_TARGET_DIR", in_victim("target")),
        ("CARGO_BUILD_BUILD_DIR", in_victim("target")),
        ("CARGO_BUILD_TARGET_DIR", in_victim("target")),
    ];
    poison.extend(others.map(|(name, value)| (name.to_owned(), value)));
    for name in [
        "GIT_NAMESPACE",
        "GIT_CEILING_DIRECTORIES",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
        "GIT_TEMPLATE_DIR",
        "GIT_EXEC_PATH",
        "GIT_SSH_COMMAND",
        "GIT_TRACE2_EVENT",
        "CARGO_BUILD_RUSTC",
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_PROFILE_DEV_OPT_LEVEL",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "LD_PRELOAD_OF_NO_USE",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDS_FIRST_FD",
    ] {
        poison.insert(name.to_owned(), format!("/poison-{name}"));
    }
    poison.insert("GIT_CONFIG_COUNT".into(), "1".into());
    poison.insert("GIT_CONFIG_KEY_0".into(), "core.hooksPath".into());
    poison.insert("GIT_CONFIG_VALUE_0".into(), "/poison-GIT_CONFIG_VALUE_0".into());
    let before = [whole(&source.path().join(".git")), whole(victim.path())];
    let mut xtask = Xtask::new(source.path(), &["--format", "json", "smoke"]).env("PATH", &path);
    for (name, value) in &poison {
        xtask = xtask.env(name, value);
    }
    let ended = xtask.run();
    green(&ended);
    same(&before[0], &whole(&source.path().join(".git")));
    same(&before[1], &whole(victim.path()));
    let seen = fs::read_to_string(beside.path("seen")).unwrap();
    assert!(seen.contains("GIT_TERMINAL_PROMPT=0") && seen.contains("CARGO_TARGET_DIR="), "{seen}");
    for bad in ["poison", victim.path().as_str()] {
        assert!(!seen.contains(bad), "{bad}: {seen}");
        assert_nowhere_in(&source.run_folder(&ended.run_id()), bad);
    }
    for name in poison.keys().filter(|name| name.starts_with("LISTEN_") || name.starts_with("RUST")) {
        assert!(!seen.contains(&format!("\n{name}=")), "{name}: {seen}");
    }
}

/// The objects of the clone: files with one name each, and no word of another repository.
fn is_apart(clone: &Utf8Path) {
    let objects = clone.join(".git/objects");
    assert!(!objects.join("info/alternates").exists());
    let mut files = 0;
    for path in whole(&objects).keys() {
        let entry = path.symlink_metadata().unwrap();
        assert!(entry.is_dir() || entry.is_file(), "{path}");
        assert!(entry.is_dir() || entry.nlink() == 1, "{path}");
        files += usize::from(entry.is_file());
    }
    assert!(files > 0);
    assert_eq!(ok(clone, &["status", "--porcelain"]), NONCE);
    // A server in the clone knows where it comes from, and cannot write there.
    assert!(
        !git(clone).args(["push", "--quiet", "origin", "HEAD:refs/heads/pushed"]).status().unwrap().success()
    );
}

/// Gives what the run has told.
fn clone_is_apart(source: &Utf8Path, beside: &Beside, what: &str) -> String {
    let workspace = beside.path(&format!("workspace-{what}"));
    let before = whole(source);
    let ended = clone_kept(source, &workspace).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{what}: {}", ended.stderr);
    is_apart(&workspace.join("repo"));
    assert_eq!(
        ok(&workspace.join("repo"), &["rev-parse", "HEAD"]),
        ok(source, &["rev-parse", "HEAD"]),
        "{what}"
    );
    let mut after = whole(source);
    // The evidence of the run is what a run leaves in its source.
    after.retain(|path, _| !path.starts_with(source.join("target")));
    let mut before = before;
    before.retain(|path, _| !path.starts_with(source.join("target")));
    same(&before, &after);
    fs::remove_dir_all(&workspace).unwrap();
    told(source, &ended)
}

#[test]
fn a_clone_shares_nothing_with_its_source_whatever_that_is() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    fs::write(source.path().join(".git/info/exclude"), "target\n").unwrap();
    let path = source.path();
    assert!(!clone_is_apart(path, &beside, "loose").contains("packed anew"));
    ok(path, &["repack", "-a", "-d", "--quiet"]);
    source.write("later.txt", "loose beside a pack");
    clone_is_apart(path, &beside, "packed");
    let other = |name: &str, args: &[&str]| {
        let to = beside.path(name);
        ok(path, &[&["clone", "--quiet"], args, &[to.as_str()]].concat());
        fs::write(to.join(".git/info/exclude"), "target\n").unwrap();
        to
    };
    let url = format!("file://{path}");
    let told = clone_is_apart(&other("alternates", &["--shared", path.as_str()]), &beside, "alternates");
    assert!(told.contains("names objects of another repository"), "{told}");
    clone_is_apart(&other("hardlinks", &[path.as_str()]), &beside, "hardlinks");
    clone_is_apart(&other("shallow", &["--depth", "1", &url]), &beside, "shallow");
    ok(path, &["config", "uploadpack.allowFilter", "true"]);
    clone_is_apart(&other("partial", &["--filter=blob:none", &url]), &beside, "partial");
    let worktree = beside.path("worktree");
    ok(path, &["worktree", "add", "--quiet", "-b", "other", worktree.as_str()]);
    clone_is_apart(&worktree, &beside, "worktree");
    ok(&worktree, &["checkout", "--quiet", "--detach"]);
    clone_is_apart(&worktree, &beside, "detached");
    let moved = other("linked", &["--no-hardlinks", path.as_str()]);
    fs::rename(moved.join(".git/objects"), beside.path("objects")).unwrap();
    symlink(beside.path("objects"), moved.join(".git/objects")).unwrap();
    clone_is_apart(&moved, &beside, "linked");
}

#[test]
fn nothing_that_the_source_or_the_user_has_set_up_for_git_is_run() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    let (path, ran) = (source.path(), beside.path("ran"));
    let script = beside.path("script");
    executable(&script, &format!("echo \"$0 $*\" >> {ran}; cat"));
    source.write(".gitattributes", "* filter=evil diff=evil\n");
    source.write("filtered.txt", "as it is\n");
    for name in
        ["post-checkout", "post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"]
    {
        executable(&path.join(".git/hooks").join(name), &format!("echo {name} >> {ran}"));
    }
    let hooks = path.join(".git/hooks");
    for (name, value) in [
        ("filter.evil.clean", script.as_str()),
        ("filter.evil.smudge", script.as_str()),
        ("filter.evil.required", "true"),
        ("diff.evil.textconv", script.as_str()),
        ("diff.evil.command", script.as_str()),
        ("diff.external", script.as_str()),
        ("core.fsmonitor", script.as_str()),
        ("core.hooksPath", hooks.as_str()),
        ("core.pager", script.as_str()),
        ("core.sshCommand", script.as_str()),
        ("core.alternateRefsCommand", script.as_str()),
        ("uploadpack.packObjectsHook", script.as_str()),
        ("gpg.program", script.as_str()),
    ] {
        ok(path, &["config", name, value]);
    }
    // So that git has to look at the content of a file, for which it would ask the filter.
    fs::write(path.join("filtered.txt"), "as it is not\n").unwrap();
    let template = beside.path("template");
    executable(&template.join("hooks/post-checkout"), &format!("echo template >> {ran}"));
    fs::remove_file(&ran).ok();
    let before = whole(&path.join(".git"));
    let xtask = until_clone(path);
    let config = format!("[init]\n\ttemplateDir = {template}\n[core]\n\thooksPath = {template}/hooks\n");
    fs::write(xtask.tmp().parent().unwrap().join("home/.gitconfig"), config).unwrap();
    let ended = xtask.run();
    green(&ended);
    let told = told(path, &ended);
    assert!(told.contains("M filtered.txt"), "{told}");
    assert_eq!(fs::read_to_string(&ran).unwrap_or_default(), "");
    same(&before, &whole(&path.join(".git")));
}

/// A bundle that there is not, committed; one that there is, in the work tree.
#[test]
fn the_bundle_is_the_one_that_is_committed() {
    let source = Source::of_working_tree();
    let path = source.path();
    let text = fs::read_to_string(path.join(SMOKE)).unwrap();
    source.edit(SMOKE, "bundle = \"core\"", "bundle = \"typo\"");
    fs::write(path.join(SMOKE), &text).unwrap();
    let ended =
        Xtask::new(path, &["--format", "json", "smoke", "--until", "bundle", "--keep", "never"]).run();
    assert_eq!(ended.code, 22, "{}", ended.stderr);
    assert!(ended.stderr.contains("typo"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

/// What is broken in the work tree alone is as if it were not there.
#[test]
fn what_is_not_committed_decides_nothing() {
    let source = Source::of_working_tree();
    let path = source.path();
    let text = fs::read_to_string(path.join(SMOKE)).unwrap();
    for file in [SMOKE, STACK, "config/agents.toml", "config/tools.toml"] {
        let committed = fs::read(path.join(file)).unwrap();
        fs::write(path.join(file), "no [toml").unwrap();
        let ended = until_clone(path).run();
        green(&ended);
        let told = told(path, &ended);
        assert!(told.contains(&format!("M {file}")), "{told}");
        fs::write(path.join(file), committed).unwrap();
    }
    fs::remove_file(path.join(SMOKE)).unwrap();
    green(&until_clone(path).run());
    fs::write(path.join(SMOKE), &text).unwrap();
    // And what is broken in the commit is not mended by the work tree.
    for (file, kind) in [(SMOKE, "smoke-config"), (STACK, "stack-config")] {
        let good = fs::read_to_string(path.join(file)).unwrap();
        source.write(file, "no [toml");
        fs::write(path.join(file), &good).unwrap();
        for args in [&["smoke", "--plan"][..], &["smoke", "--until", "clone", "--keep", "never"]] {
            let ended = Xtask::new(path, &[&["--format", "json"], args].concat()).run();
            assert_eq!(ended.code, 20, "{}", ended.stderr);
            assert!(ended.stderr.contains(&format!(":{file}:1:")), "{kind}: {}", ended.stderr);
        }
        source.write(file, &good);
    }
    green(&until_clone(path).run());
}

#[test]
fn a_description_that_is_no_plain_file_of_the_commit_is_refused() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    let path = source.path().to_owned();
    let text = fs::read_to_string(path.join(SMOKE)).unwrap();
    let refused = |kind: &str, why: &str| {
        let ended = until_clone(&path).run();
        assert_eq!(ended.verdict(), (20, kind.to_owned()), "{}", ended.stderr);
        assert!(ended.stderr.contains(why) && ended.stderr.contains("hint: "), "{}", ended.stderr);
        assert_eq!(ended.left(), Vec::<String>::new());
    };
    let remove = || fs::remove_file(path.join(SMOKE)).unwrap();
    remove();
    source.write("other.txt", "x");
    fs::write(path.join(SMOKE), &text).unwrap();
    refused("smoke-config-missing", "git add config/smoke.toml");
    remove();
    fs::write(beside.path("smoke.toml"), &text).unwrap();
    symlink(beside.path("smoke.toml"), path.join(SMOKE)).unwrap();
    source.write("other.txt", "y");
    refused("smoke-config-unreadable", "symbolic link");
    remove();
    source.write(SMOKE, &text);
    fs::set_permissions(path.join(SMOKE), fs::Permissions::from_mode(0o755)).unwrap();
    source.write("other.txt", "z");
    refused("smoke-config-unreadable", "git update-index --chmod=-x config/smoke.toml");
    fs::set_permissions(path.join(SMOKE), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path.join(SMOKE), b"# \xe4\n").unwrap();
    source.write("other.txt", "1");
    refused("smoke-config-not-utf8", "byte 2, on line 1");
    source.write(SMOKE, &format!("{text}#{}\n", "x".repeat(2 << 20)));
    refused("smoke-config-unreadable", "at most 1048576 are read");
    source.write(SMOKE, &text);
    let moved = path.join("moved");
    fs::rename(path.join("config"), &moved).unwrap();
    symlink("moved", path.join("config")).unwrap();
    source.write("other.txt", "2");
    refused("smoke-config-unreadable", "config is a symbolic link in the commit");
}

#[test]
fn a_run_is_of_the_commit_that_was_planned_though_the_source_moves_on() {
    let (source, beside) = (Source::of_working_tree(), Beside::new());
    let path = source.path();
    let planned = ok(path, &["rev-parse", "HEAD"]);
    let real = done(Command::new("sh").args(["-c", "command -v git"]).output().unwrap());
    let (real, once) = (real.trim(), beside.path("once"));
    let commit = "-c user.name=x -c user.email=x@x.invalid commit --quiet --allow-empty --message moved";
    let moves = format!(
        "case \" $* \" in *\" clone \"*) if mkdir {once} 2>/dev/null; then {real} -C {path} {commit}; fi;; esac\n\
         exec {real} \"$@\""
    );
    let workspace = beside.path("w");
    let ended = clone_kept(path, &workspace).env("PATH", &beside.program("git", &moves)).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let told = told(path, &ended);
    assert!(told.contains("the source has moved on"), "{told}");
    assert_ne!(ok(path, &["rev-parse", "HEAD"]), planned);
    assert_eq!(ok(&workspace.join("repo"), &["rev-parse", "HEAD"]), planned);
    assert_eq!(ok(&workspace.join("repo"), &["status", "--porcelain"]), NONCE);
    // A run that goes on reads what it was begun with, whatever has been committed since.
    source.write(SMOKE, "no [toml");
    let run = ended.run_id();
    let on = ["--format", "json", "smoke", "--resume", &run, "--from", "clone", "--until", "clone"];
    let stale = Xtask::new(path, &on).run();
    assert_eq!(stale.verdict(), (50, "workspace-stale".to_owned()), "{}", stale.stderr);
    // Nor does it run what a server has left in the clone's own configuration.
    let (repo, ran) = (workspace.join("repo"), beside.path("a-filter-ran"));
    ok(&repo, &["config", "filter.planted.clean", &format!("touch {ran}; cat")]);
    fs::create_dir_all(repo.join(".git/info")).unwrap();
    fs::write(repo.join(".git/info/attributes"), "* filter=planted\n").unwrap();
    let reused = Xtask::new(path, &on).args(&["--if-exists", "reuse"]).run();
    assert_eq!(reused.verdict(), (0, String::new()), "{}", reused.stderr);
    assert!(!ran.exists());
    // Also when the source has lost it.
    ok(path, &["checkout", "--quiet", "--orphan", "another"]);
    source.write("other.txt", "x");
    ok(path, &["branch", "-D", "--quiet", "main"]);
    ok(path, &["reflog", "expire", "--expire=now", "--all"]);
    ok(path, &["gc", "--quiet", "--prune=now"]);
    let lost = Xtask::new(path, &on).args(&["--if-exists", "reuse"]).run();
    assert_eq!(lost.verdict(), (0, String::new()), "{}", lost.stderr);
}
