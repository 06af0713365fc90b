//! The clone and the config home are what they were after every step, and are told apart from what a step may change.

use stelae_tests::{Ended, Source, Xtask, private_folder};

const SMOKE: &str = "config/smoke.toml";
const STACK: &str = "config/stack.toml";

fn smoke(source: &Source) -> Ended {
    Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]).run()
}

/// A stack with a command that the gateway's shell carries out, in the clone, before it becomes the gateway.
fn with_prelude(prelude: &str) -> Source {
    let source = Source::of_working_tree();
    let script = format!(
        "{prelude}; exec env -u PWD -u OLDPWD -u SHLVL -u _ <<STELAE_BIN_DIR>>/stelae-gateway serve \
         --config <<STELAE_CONFIG_HOME>>/proxy.json"
    );
    source.edit(STACK, "command = \"<<STELAE_BIN_DIR>>/stelae-gateway\"", "command = \"/bin/sh\"");
    let old = "args = [\"serve\", \"--config\", \"<<STELAE_CONFIG_HOME>>/proxy.json\"]";
    source.edit(STACK, old, &format!("args = [\"-c\", '{script}']"));
    source
}

/// A stack with a fixture beside it, whose script is in the clone.
fn with_fixture(script: &str) -> Source {
    let source = Source::of_working_tree();
    source.write("tests/fixture-script.toml", script);
    let fixture = env!("CARGO_BIN_EXE_stelae-fixture");
    let args = "args = [\"--script\", \"<<STELAE_ROOT>>/tests/fixture-script.toml\"]";
    let service = format!("[services.scribe]\ncommand = \"{fixture}\"\n{args}\n\n[readiness]\n");
    source.edit(STACK, "[readiness]\n", &service);
    source
}

/// What the stack does to the clone when it starts, the kind of failure that it is, and what is said of it.
const CASES: [(&str, &str, &str); 20] = [
    (
        "mkdir -p .git/hooks; echo exit 1 | tee .git/hooks/pre-commit",
        "git-config-changed",
        "added (folder): repo:.git/hooks",
    ),
    ("git checkout --quiet --detach", "git-refs-changed", "changed (content): repo:.git/HEAD"),
    ("echo | tee .git/index.lock", "git-state-changed", "added (file): repo:.git/index.lock"),
    ("mkdir -p target; echo x | tee target/junk", "git-not-clean", "added (folder): repo:target"),
    ("mkfifo pipe", "git-not-clean", "added (fifo): repo:pipe"),
    ("git update-index --assume-unchanged README.md", "git-state-changed", "repo:.git/index: README.md"),
    (
        "git update-index --skip-worktree README.md",
        "git-state-changed",
        "skip-worktree): repo:.git/index: README.md",
    ),
    ("git rm --quiet --cached README.md", "git-state-changed", "-> nothing): repo:.git/index: README.md"),
    ("git branch surprise", "git-refs-changed", "repo:.git/logs/refs/heads/surprise"),
    ("git pack-refs --all", "git-refs-changed", "repo:.git/packed-refs"),
    ("git rev-parse HEAD | tee .git/MERGE_HEAD", "git-state-changed", "added (file): repo:.git/MERGE_HEAD"),
    ("git rev-parse HEAD | tee .git/shallow", "git-state-changed", "added (file): repo:.git/shallow"),
    ("mkdir -p .git/rebase-merge", "git-state-changed", "added (folder): repo:.git/rebase-merge"),
    ("git config core.fileMode false", "git-config-changed", "changed (content): repo:.git/config"),
    (
        "mkdir -p .git/objects/info; echo /x | tee .git/objects/info/alternates",
        "git-config-changed",
        "repo:.git/objects/info",
    ),
    ("chmod 755 README.md", "git-not-clean", "changed (mode: 0644 -> 0755): repo:README.md"),
    ("rm README.md; ln -s LICENSE-MIT README.md", "git-not-clean", "changed (type: file -> link"),
    ("mkdir empty", "git-not-clean", "added (folder): repo:empty"),
    ("echo SURPRISE=1 | tee -a .env", "git-not-clean", "changed (content): repo:.env"),
    ("truncate -s 6G sparse", "git-not-clean", "added (file): repo:sparse"),
];

#[test]
fn whatever_a_stack_does_to_its_clone_is_named() {
    let mut wrong = Vec::new();
    for (prelude, kind, says) in CASES {
        let ended = smoke(&with_prelude(prelude));
        let is = ended.verdict() == (50, kind.to_owned())
            && ended.json()["failed_step"] == "structural"
            && ended.stderr.contains(says)
            && ended.left().is_empty();
        if !is {
            wrong.push(format!(
                "{prelude}: {:?}, not {kind} with {says:?}: {}",
                ended.verdict(),
                ended.stderr
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn an_index_that_git_only_refreshes_says_the_same() {
    let ended = smoke(&with_prelude("touch README.md; git status --short"));
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn what_changes_while_stages_are_played_is_blamed_on_a_stage() {
    let folder = private_folder();
    let workspace = folder.path().join("w").to_str().unwrap().to_owned();
    let source = with_fixture(&format!(
        "steps = [{{ await-entry = {{ folder = \"{workspace}/config/bundles/discovered/servers\", begins = \"wordcount_\" }} }}, \
         {{ write-file = \"{workspace}/repo/stray\" }}]\n"
    ));
    let args = ["--format", "json", "smoke", "--keep", "never", "--workspace", &workspace];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (50, "git-not-clean".to_owned()), "{}", ended.stderr);
    let step = ended.json()["failed_step"].as_str().unwrap().to_owned();
    assert!(step == "stage:install" || step == "stage:remove", "{step}: {}", ended.stderr);
    assert!(ended.stderr.contains(&format!("after {step}, 1 entry differs")), "{}", ended.stderr);
    assert!(ended.stderr.contains("added (file): repo:stray"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn what_changes_while_the_stack_ends_is_seen_too() {
    let ended = smoke(&with_fixture("on-term = \"write-and-die\"\n"));
    assert_eq!(ended.verdict(), (50, "git-not-clean".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "teardown");
    assert!(ended.stderr.contains("after the teardown, 1 entry differs"), "{}", ended.stderr);
    assert!(ended.stderr.contains("added (file): repo:tests/fixture-script.left"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn what_a_build_writes_into_its_sources_is_the_builds() {
    let source = Source::of_working_tree();
    let script = "fn main() {\n    std::fs::write(\"src/made.rs\", \"\").unwrap();\n}\n";
    source.write("xtask/build.rs", script);
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (50, "git-not-clean".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "build");
    assert!(ended.stderr.contains("added (file): repo:xtask/src/made.rs"), "{}", ended.stderr);
    source.edit(SMOKE, "[may_leave]\n", "[may_leave]\nbuild = [\"repo:xtask/src/made.rs\"]\n");
    let ended = Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "render"]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
}

#[test]
fn what_a_stage_changes_and_does_not_declare_is_named() {
    let source = Source::of_working_tree();
    source.edit(SMOKE, ", \"config:proxy.json\"]", "]");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (50, "catalog-changed".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "stage:install");
    assert!(ended.stderr.contains("changed (content): config:proxy.json"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn what_a_stage_does_not_undo_is_named_when_all_is_over() {
    // The last stage removes nothing: what the second one installed stays.
    let source = Source::of_working_tree();
    source.edit(SMOKE, "tools_lost = [\"count_words\"]\n", "");
    let removal = "[[stage.call]]\ntool = \"manage_stelae\"\narguments = { operation = \"remove_server\", params = { name = \"wordcount_{{ NONCE }}\" } }\nresult = [{ contains = \"wordcount_{{ NONCE }}\" }]\n";
    source.edit(SMOKE, removal, "");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (50, "catalog-changed".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "verify");
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_declaration_that_nothing_needs_is_told() {
    let source = Source::of_working_tree();
    source.edit(SMOKE, "setup = [\"repo:.env\"]", "setup = [\"repo:.env\", \"repo:never/**\"]");
    let ended = Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "render"]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let warnings = ended.json()["warnings"].to_string();
    assert!(
        warnings.contains("setup, bundle, render may change repo:never/**, and there is none"),
        "{warnings}"
    );
    source.edit(SMOKE, "repo:never/**", "clone:never/**");
    let refused = Xtask::new(source.path(), &["--format", "json", "smoke"]).run();
    assert_eq!(refused.verdict(), (20, "smoke-config".to_owned()), "{}", refused.stderr);
    assert!(refused.stderr.contains("there is no root \"clone\""), "{}", refused.stderr);
}

#[test]
fn a_source_whose_clone_is_never_clean_is_told_as_that() {
    let source = Source::of_working_tree();
    // Committed with both line endings, and declared to be text only then.
    source.write("crlf.txt", "one\r\ntwo\r\n");
    source.write_without_adding(".gitattributes", "crlf.txt text eol=lf\n");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (50, "clone-never-clean".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "clone");
    for part in ["M crlf.txt", "i/crlf", "git add --renormalize"] {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_session_that_goes_on_knows_what_was_there() {
    let source = Source::of_working_tree();
    let workspace = private_folder();
    let workspace = workspace.path().join("w").to_str().unwrap().to_owned();
    let args = ["--format", "json", "smoke", "--until", "stage:bundle-tools", "--workspace", &workspace];
    let first = Xtask::new(source.path(), &args).run();
    assert_eq!(first.code, 0, "{}", first.stderr);
    let run = first.run_id();
    std::fs::write(format!("{workspace}/repo/meanwhile"), "").unwrap();
    let resume = |args: &[&str]| {
        Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "always", "--resume", &run])
            .args(args)
            .run()
    };
    let ended = resume(&[]);
    assert_eq!(ended.verdict(), (50, "git-not-clean".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("added (file): repo:meanwhile"), "{}", ended.stderr);
    std::fs::remove_file(format!("{workspace}/repo/meanwhile")).unwrap();
    let ended = resume(&["--from", "restart"]);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    // The nonce is the run's.
    let nonce = std::fs::read_to_string(format!("{workspace}/repo/stelae-nonce.txt")).unwrap();
    let prompt = source.run_folder(&run).join("transcripts/remove.prompt.txt");
    assert!(std::fs::read_to_string(prompt).unwrap().contains(nonce.trim_end()));
}
