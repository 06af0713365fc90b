//! Many runs at once, on one machine, of one source.

use stelae_tests::{Ended, Run, Source, Xtask};

#[test]
fn sixteen_at_once_are_all_green_and_leave_nothing() {
    let source = Source::of_working_tree();
    // Sixteen share what one has otherwise: that none disturbs another is asked for, and not how fast they are.
    for (limit, longer) in
        [("idle_ms = 10_000", "idle_ms = 120_000"), ("ceiling_ms = 20_000", "ceiling_ms = 240_000")]
    {
        source.edit("config/stack.toml", limit, longer);
    }
    source.edit("config/stack.toml", "ceiling_ci_ms = 25_000", "ceiling_ci_ms = 240_000");
    let budgets = [
        ("run_s = 120", "run_s = 1200"),
        ("step_s = 20", "step_s = 240"),
        ("restart_s = 30", "restart_s = 260"),
    ];
    for (limit, longer) in budgets {
        source.edit("config/smoke.toml", limit, longer);
    }
    // Whoever comes first builds, and the others wait for that: their budgets do not count a build.
    let first =
        Xtask::new(source.path(), &["--format", "json", "smoke", "--until", "build", "--keep", "never"])
            .run();
    assert!(source.run_folder(&first.run_id()).exists(), "{}", first.stderr);
    let start = |_| Xtask::new(source.path(), &["--format", "json", "smoke"]).start();
    let runs: Vec<Run> = (0..16).map(start).collect();
    // All are runs of one root: what is left of any is looked at when the last has ended.
    let ended: Vec<Ended> = runs.into_iter().map(Run::wait).collect();
    for ended in ended {
        assert_eq!((ended.code, ended.left()), (0, Vec::new()), "{}\n{}", ended.stdout, ended.stderr);
    }
}
