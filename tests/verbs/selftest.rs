//! `selftest`: every exit code is seen, and a witness that sees something else is heard.

use rustix::process::Signal;
use serde_json::Value;
use stelae_model::ExitCode;
use stelae_tests::{Ended, Source, Xtask, until};

fn selftest(source: &Source, args: &[&str]) -> Xtask {
    Xtask::new(source.path(), &["--format", "json", "selftest"]).args(args)
}

fn row(ended: &Ended, code: u8) -> Value {
    let json = ended.json();
    let rows = json["rows"].as_array().unwrap_or_else(|| panic!("{}{}", ended.stdout, ended.stderr));
    rows.iter().find(|row| row["code"] == code).unwrap().clone()
}

fn verdicts(ended: &Ended, codes: &[u8]) -> Vec<String> {
    codes.iter().map(|&code| row(ended, code)["verdict"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_exit_code_has_a_live_witness() {
    let ended = selftest(&Source::of_working_tree(), &[]).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.json()["schema"], 1);
    assert_eq!(ended.json()["rows"].as_array().unwrap().len(), ExitCode::ALL.len());
    for &code in ExitCode::ALL {
        let row = row(&ended, code.number());
        match code.awaits() {
            None => assert_eq!(row["verdict"], "ok", "{row}"),
            Some(feature) => {
                assert_eq!((&row["verdict"], &row["awaits"]), (&"awaits".into(), &feature.into()));
            }
        }
    }
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_witness_that_sees_something_else_is_heard() {
    // The silent gateway is a program of the machine, and is not found.
    let source = Source::of_working_tree();
    let xtask = selftest(&source, &["--only", "2", "--only", "31"]);
    let ended = xtask.env("PATH", "/no/such/folder").run();
    assert_eq!(ended.verdict(), (10, "witness-failed".to_owned()), "{}", ended.stderr);
    assert_eq!(verdicts(&ended, &[2, 31, 32, 64]), ["ok", "failed", "left-out", "awaits"]);
    let saw = row(&ended, 31)["saw"].to_string();
    assert!(saw.contains("exit status 40") && saw.contains("40 program-missing"), "{saw}");
    assert!(ended.stderr.contains("hint: cargo xtask selftest --only 31"), "{}", ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}

#[test]
fn a_hangup_is_seen_under_nohup_too() {
    let source = Source::of_working_tree();
    let script = "trap '' HUP; exec \"$0\" --format json selftest --only 129";
    let ended = Xtask::new(source.path(), &["-c", script]).run_in_shell();
    assert_eq!(ended.verdict(), (0, String::new()), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(verdicts(&ended, &[129]), ["ok"]);
}

#[test]
fn a_code_that_nothing_ends_with_yet_is_not_asked_for() {
    let ended = selftest(&Source::of_working_tree(), &["--only", "64"]).run();
    assert_eq!(ended.verdict(), (2, "usage".to_owned()), "{}", ended.stderr);
    assert!(ended.stderr.contains("it awaits the slot probe"), "{}", ended.stderr);
}

#[test]
fn a_selftest_that_is_ended_takes_its_witness_with_it() {
    let source = Source::of_working_tree();
    let mut run = selftest(&source, &["--only", "32"]).start();
    until("its witness", || {
        let heard = run.stderr().contains("selftest: 32");
        assert!(heard || !run.has_ended(), "it ended: {}", run.stderr());
        heard
    });
    run.signal(Signal::TERM);
    let ended = run.wait();
    assert_eq!(ended.verdict(), (143, "interrupted".to_owned()), "{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.left(), Vec::<String>::new());
}
