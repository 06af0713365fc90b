//! What costs the supervisor no more memory, however much of it there is.

use std::fs;

use camino::{Utf8DirEntry, Utf8PathBuf};
use rustix::process::Signal;
use stelae_tests::until;

use crate::stage::{Ending, PATIENT, Service, Stage};

const MIB: u64 = 1024 * 1024;
/// Of output. A supervisor that keeps it has this much in its memory, at least.
const FLOOD: u64 = 200 * MIB;
/// Bytes of a line of it.
const LINE: u64 = 128;
/// What a supervisor may have had in its memory at most.
const MOST: u64 = 64 * MIB;

/// The most memory that it ever had; none when it is gone.
fn peak(supervisor: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{supervisor}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().unwrap() * 1024)
}

/// How much of the log it has read.
fn read_so_far(supervisor: i32, stage: &Stage) -> Option<u64> {
    let process = Utf8PathBuf::from(format!("/proc/{supervisor}"));
    let descriptors = process.join("fd").read_dir_utf8().ok()?.flatten();
    let is_log = |descriptor: &Utf8DirEntry| {
        fs::read_link(descriptor.path()).is_ok_and(|file| file == stage.log().as_std_path())
    };
    let descriptor = descriptors.into_iter().find(is_log)?.file_name().to_owned();
    let info = fs::read_to_string(process.join("fdinfo").join(descriptor)).ok()?;
    info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}

#[test]
fn a_flood_of_output_is_ready_all_the_same_and_costs_bounded_memory() {
    let service = Service {
        script: "steps = [{ flood-mib = 200 }, { listen = 'passed' }]\nanswers = { tools = ['a'] }",
        ..PATIENT
    };
    let stage = Stage::new(&service);
    let mut run = stage.start(&service);
    Stage::await_ready(&mut run);
    let supervisor = run.inner();
    assert_eq!(fs::metadata(stage.log()).unwrap().len(), FLOOD);
    // It reads on while the stack is up, and has to have read all of it for this to mean anything.
    until("the supervisor to have read its flood", || read_so_far(supervisor, &stage) == Some(FLOOD));
    let mut most = peak(supervisor).unwrap();
    // The look before the teardown is part of what is measured.
    run.signal(Signal::TERM);
    while !run.has_ended() {
        most = most.max(peak(supervisor).unwrap_or(0));
    }
    let ending = stage.end(run);
    assert_eq!(ending.code, 143, "{:?}", ending.events.last());
    assert!(most < MOST, "{} MiB", most / MIB);
    assert!(lines_before_listening(&ending) < FLOOD / LINE / 2, "{:?}", ending.events);
    // Of 200 MiB the end is kept, and the rest is counted.
    let Some(log) = ending.snapshot.logs.first() else { return assert!(!ending.is_looked_at()) };
    assert_eq!(log.bytes, FLOOD);
    assert_eq!(log.left_out_bytes + log.lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>(), FLOOD);
}

/// How many lines the supervisor had read when it saw that the service listens, which it did from its first moment on: a
/// backlog that is read in one piece keeps the supervisor from everything else, the signals included.
fn lines_before_listening(ending: &Ending) -> u64 {
    let events = ending.events.iter().map(|record| &record["event"]);
    let before = events.take_while(|event| event["rung"] != "listening" || event["status"] != "ready");
    let left_out = |text: &str| {
        text.split_once(" lines of the gateway's log").map(|(count, _)| count.parse::<u64>().unwrap())
    };
    before.map(|event| event["text"].as_str().and_then(left_out).unwrap_or(1)).sum()
}
