//! `soak`, small: every way to get away, with every victim; and random moments.

use stelae_tests::{Ended, Source, Xtask};

fn soak(args: &[&str]) -> Ended {
    let source = Source::of_working_tree();
    let args: Vec<&str> = ["--format", "json", "soak"].iter().chain(args).copied().collect();
    Xtask::new(source.path(), &args).run()
}

fn clean(ended: &Ended, runs: u64) {
    let tally = ended.json();
    assert_eq!(ended.code, 0, "{tally:#}");
    assert_eq!(tally["runs"], runs);
    for list in ["survivors", "leaked_leases", "leaked_ports", "leaked_folders", "failed"] {
        assert_eq!(tally[list], serde_json::json!([]), "{list}");
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn every_way_to_get_away_with_every_victim() {
    let ended = soak(&["--runs", "151", "--jobs", "4", "--load", "0", "--kill", "each"]);
    clean(&ended, 151);
    let tally = ended.json();
    // Without namespaces there are fewer to go through, and it says so.
    let namespaces = tally["latencies"].as_array().unwrap().iter().any(|one| one["isolation"] == "pidns");
    let left_out = tally["left_out"].to_string();
    assert!(namespaces || left_out.contains("not allowed here"), "{tally:#}");
}

#[test]
fn anyone_at_any_moment() {
    let ended = soak(&["--runs", "60", "--jobs", "6", "--kill", "random"]);
    clean(&ended, 60);
    assert!(ended.json()["killed"].as_u64().unwrap() > 0);
}

#[test]
fn nobody_is_killed_and_everything_ends_by_itself() {
    clean(&soak(&["--runs", "12", "--load", "0", "--kill", "never"]), 12);
}

/// What soak counts is there to be counted: a lifecycle's service that is set free is found.
#[test]
fn a_soak_that_is_itself_killed_leaves_nothing() {
    let source = Source::of_working_tree();
    let xtask = Xtask::new(source.path(), &["soak", "--runs", "1000", "--jobs", "4", "--kill", "never"]);
    let cache = xtask.tmp().with_file_name("cache");
    let run = xtask.env("STELAE_CACHE_HOME", cache.as_str()).start();
    let workspaces = || {
        let soaks = cache.join("workspaces").read_dir_utf8().into_iter().flatten().flatten();
        soaks.filter(|soak| soak.path().join("work").exists()).count()
    };
    stelae_tests::until("a lifecycle", || workspaces() > 0);
    run.signal(rustix::process::Signal::KILL);
    assert_eq!(run.wait().code, 137);
    stelae_tests::until("the end of all of them", || stelae_tests::alive(cache.as_str()).is_empty());
}
