//! What is expected proves something: what anything meets is refused, and no constant passes.

use stelae_tests::{Ended, Source, Xtask};

const SMOKE: &str = "config/smoke.toml";
const STACK: &str = "config/stack.toml";

fn smoke(source: &Source) -> Ended {
    Xtask::new(source.path(), &["--format", "json", "smoke", "--keep", "never"]).run()
}

/// What is changed in a file, and how it is refused: before anything is built.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const NEVER: &str = "[[stage.never]]\ntool = \"manage_stelae\"\n";
const RESULT: &str = "result = [{ equals = \"{{ NONCE }}\\n\" }]";

const CASES: [Case; 12] = [
    (SMOKE, RESULT, "result_contains = \"\"", "smoke-config", "stage bundle-tools, call 1: result_contains"),
    (SMOKE, RESULT, "result = [{ contains = \"\" }]", "smoke-config", "stage bundle-tools, call 1: result 1"),
    (SMOKE, RESULT, "result = []", "smoke-config", "stage bundle-tools, call 1: result"),
    (SMOKE, RESULT, "result = [{ matches = \".*\" }]", "smoke-config", "also matches an empty text"),
    (SMOKE, RESULT, "result = [{ equal = \"x\" }]", "smoke-config", "unknown field `equal`"),
    (SMOKE, RESULT, "result = [{ json = \"words\", equals = 3 }]", "smoke-config", "no JSON pointer"),
    (
        SMOKE,
        "arguments = { operation = \"remove_server\" }\n",
        "arguments = {}\n",
        "smoke-config",
        "empty arguments",
    ),
    (
        STACK,
        "required_tools = [\"grep\", \"manage_stelae\", \"workspace_fs_read\"]",
        "required_tools = []",
        "stack-config",
        "readiness.required_tools",
    ),
    (
        STACK,
        "\"grep\", \"manage_stelae\"",
        "\"grep\", \"grep\", \"manage_stelae\"",
        "stack-config",
        "grep is required twice",
    ),
    (STACK, "result = [{ equals = \"[workspace]\\n\" }]", "", "stack-config", "readiness.canary.result"),
    (
        STACK,
        "result = [{ equals = \"[workspace]\\n\" }]",
        "result = [{ contains = \" \" }]",
        "stack-config",
        "readiness.canary.result 1",
    ),
    (
        STACK,
        "[readiness.canary]\ntool = \"workspace_fs_read\"\narguments = { operation = \"read_file\", path = \"Cargo.toml\", limit = 1 }\nresult = [{ equals = \"[workspace]\\n\" }]",
        "",
        "stack-config",
        "readiness.canary",
    ),
];

#[test]
fn what_anything_meets_is_refused_before_anything_is_built() {
    for (file, old, new, kind, says) in CASES {
        let source = Source::of_working_tree();
        source.edit(file, old, new);
        let ended = smoke(&source);
        assert_eq!(ended.verdict(), (20, kind.to_owned()), "{new}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{new}: {}", ended.stderr);
        assert_eq!(stelae_tests::runs(source.path()), Vec::<String>::new(), "{new}");
    }
}

#[test]
fn a_forbidden_tool_that_no_server_lists_is_refused_at_its_stage() {
    let source = Source::of_working_tree();
    source.edit(SMOKE, NEVER, &NEVER.replace("manage_stelae", "manage_stelea"));
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (20, "never-unknown".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "stage:install");
    assert!(ended.stderr.contains("did you mean \"manage_stelae\"?"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_number_that_begins_like_the_right_one_is_another() {
    let source = Source::of_working_tree();
    source.edit(SMOKE, "{ json = \"/words\", equals = 4 }", "{ json = \"/words\", equals = 44 }");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (11, "result-differs".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("expected the value at /words to be 44"), "{}", ended.stderr);
}

#[test]
fn an_answer_of_another_run_is_no_pass() {
    // A server that answers every read with what some other run's file held.
    let source = Source::of_working_tree();
    let old = "\"n0123456789abcdef\\n\"";
    source.edit(
        "xtask/crates/stelae-gateway/src/server/fs_read.rs",
        "    Ok(Answer { text, data: None })",
        &format!("    let cached = path.ends_with(\"nonce.txt\");\n    Ok(Answer {{ text: if cached {{ {old}.to_owned() }} else {{ text }}, data: None }})"),
    );
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (11, "result-differs".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "stage:bundle-tools");
    assert!(ended.stderr.contains("got \"n0123456789abcdef\\n\""), "{}", ended.stderr);
}

#[test]
fn a_commit_that_has_the_file_of_the_nonce_is_refused() {
    let source = Source::of_working_tree();
    source.write("stelae-nonce.txt", "n0123456789abcdef, and more\n");
    let ended = smoke(&source);
    assert_eq!(ended.verdict(), (20, "nonce-file-exists".to_owned()), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}
