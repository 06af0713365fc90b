//! Generated pages are fresh.

use stelae_tests::{Source, Xtask, root};

#[test]
fn generated_pages_are_what_the_code_says() {
    let ended = Xtask::new(&root(), &["docs", "--check"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn a_stale_page_is_named_and_written_anew() {
    let source = Source::of_working_tree();
    source.edit("docs/ENV.md", "PROXY_PORT", "PROXY_PROT");
    let check = || Xtask::new(source.path(), &["--format", "json", "docs", "--check"]).run();
    let ended = check();
    assert_eq!(ended.code, 50);
    assert!(
        ended.stderr.contains("docs/ENV.md") && ended.stderr.contains("hint: cargo xtask docs"),
        "{}",
        ended.stderr
    );
    // What was found and that it is a failure are one document.
    assert_eq!(ended.verdict(), (50, "docs-stale".to_owned()));
    assert!(ended.json()["changed"][0].as_str().unwrap().ends_with("docs/ENV.md"), "{}", ended.stdout);
    assert_eq!(Xtask::new(source.path(), &["docs"]).run().code, 0);
    assert_eq!(check().code, 0);
}
