//! Many runs at once, on one machine, of one source.

use stelae_tests::{Run, Source, Xtask};

#[test]
fn sixteen_at_once_are_all_green_and_leave_nothing() {
    let source = Source::of_working_tree();
    // Whoever comes first builds, and the others wait for that: their budgets do not count a build.
    let first = Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "build"]).run();
    assert!(source.run_folder(&first.run_id()).exists(), "{}", first.stderr);
    let start = |_| Xtask::new(source.path(), &["--format", "json", "smoke"]).start();
    let runs: Vec<Run> = (0..16).map(start).collect();
    for run in runs {
        let ended = run.wait();
        assert_eq!((ended.code, ended.left()), (0, Vec::new()), "{}\n{}", ended.stdout, ended.stderr);
    }
}
