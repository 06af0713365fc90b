//! The half of the guardian that watches, with stand-ins for the half that works: whatever that does, there is an end.
//!
//! A program of its own with one test: the half that watches stops everything below its process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Isolation;
use stelae_run::guardian::{Document, LiveFile, Outer, Prints};
use stelae_run::signals::Interrupt;

/// A stand-in that lives for so long has held its watchdog up; it says so in a file.
const HOLDS_S: u32 = 240;

/// How a stand-in in a shell ended: its code or its kind, and its live file.
struct Ended {
    code: Result<u8, String>,
    held_up: bool,
    file_is_left: bool,
    left: Vec<String>,
}

fn stand(folder: &Utf8Path, number: usize, script: &str) -> Ended {
    let (live, held) = (folder.join(format!("live-{number}")), folder.join(format!("held-{number}")));
    let live_file = LiveFile::create(&live).unwrap();
    let hold = format!("sleep {HOLDS_S} & wait $!; wait $!; echo held > {held}");
    let outer = Outer {
        program: "/bin/sh".into(),
        args: vec!["-c".to_owned(), script.replace("HOLD", &hold)],
        env: Vec::new(),
        isolation: Isolation::Guard,
        follows_stdin: false,
        live: live_file,
        prints: Prints::Lines,
        document: Document::default(),
    };
    let stood = outer.stand(Interrupt::never(), &|_| ());
    let left = stood.as_ref().map(|stood| stood.left.clone()).unwrap_or_default();
    Ended {
        code: stood.map(|stood| stood.code).map_err(|failure| failure.kind),
        held_up: held.exists(),
        file_is_left: fs::read_dir(live).unwrap().count() > 0,
        left,
    }
}

#[test]
fn what_works_has_an_end_whatever_it_does_after_its_word() {
    let guard = tempfile::tempdir().unwrap();
    let folder = Utf8PathBuf::from_path_buf(guard.path().to_owned()).unwrap();
    let killed = Err("guardian-killed".to_owned());
    let hangs = Err("guardian-hangs".to_owned());
    let hello = "trap '' TERM INT HUP; echo '\"hello\"' >&0;";
    let rows: [(&str, Result<u8, String>); 8] = [
        // The word is the end, also of one that goes on for ever, and keeps the line.
        (r#"echo '{"ending":34}' >&0; HOLD"#, Ok(34)),
        (r#"echo '{"ending":0}' >&0; HOLD"#, Ok(0)),
        (r#"echo '{"ending":124}' >&0; kill -STOP $$; HOLD"#, Ok(124)),
        // It left its line, without a word.
        ("exec <&-; HOLD", killed.clone()),
        ("kill -KILL $$", killed.clone()),
        // What is no message is no half of ours.
        ("echo nonsense >&0; HOLD", killed),
        // It said until when.
        (r#"echo '{"over-in":100}' >&0; HOLD"#, hangs),
        // It ends by itself, with something left that is ended for it.
        (r#"sleep 600 & echo '{"ending":11}' >&0; exit 11"#, Ok(11)),
    ];
    for (number, (script, code)) in rows.into_iter().enumerate() {
        let ended = stand(&folder, number, &format!("{hello} {script}"));
        assert_eq!(ended.code, code, "{script}");
        assert!(!ended.held_up, "it waited for: {script}");
        assert_eq!(ended.left, Vec::<String>::new(), "{script}");
        // An orderly end leaves nothing to sweep.
        assert_eq!(ended.file_is_left, code.is_err(), "{script}");
        assert_eq!(below_us(), Vec::<String>::new(), "{script}");
    }
}

/// Every process below this one.
fn below_us() -> Vec<String> {
    let us = i32::try_from(std::process::id()).unwrap();
    stelae_tests::children(us).iter().map(i32::to_string).collect()
}
