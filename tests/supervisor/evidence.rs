//! What is seen before the first signal, and what must not be.

use std::fs;

use stelae_model::evidence::{Details, Snapshot};
use stelae_tests::{Run, until};

use crate::stage::{Ending, PATIENT, Service, Stage};

const TALKATIVE: Service = Service {
    script: "steps = [{ say-variable = 'STELAE_CONTROL_TOKEN' }, { fork = 'cleared-env' }, { listen = 'passed' }]\n\
             answers = { tools = ['a'], not-found-until = 2 }",
    ..PATIENT
};

fn up(stage: &Stage) -> Run {
    let mut run = stage.start(&TALKATIVE);
    Stage::await_ready(&mut run);
    until("the child", || stage.path("script.children").exists());
    run
}

/// A stack that was up and was told to end, and what its log says of the token. A machine that is starved gets more than
/// one try: a snapshot that says that it is not whole has nothing to show here.
fn looked_at() -> (Stage, Ending, String) {
    for _try in 0..10 {
        let stage = Stage::new(&TALKATIVE);
        let run = up(&stage);
        let log = fs::read_to_string(stage.log()).unwrap();
        let token =
            log.lines().find_map(|line| line.strip_prefix("STELAE_CONTROL_TOKEN=")).unwrap().to_owned();
        let ending = stage.end_by_term(run);
        if ending.is_looked_at() {
            return (stage, ending, token);
        }
    }
    panic!("there never was time to look at two processes");
}

fn all_of(snapshot: &Snapshot) -> Vec<&Details> {
    snapshot.processes.iter().map(|process| process.details.as_ref().expect("it was looked at")).collect()
}

#[test]
fn a_snapshot_has_processes_sockets_environments_logs_and_probes() {
    let (stage, ending, _) = looked_at();
    let all = all_of(&ending.snapshot);
    // The one in the middle has ended, and was not waited for: a zombie has nothing to show but that.
    let zombie = |details: &&Details| details.state.as_ref().unwrap().starts_with('Z');
    assert!(all.iter().copied().filter(zombie).all(|details| !details.unreadable.is_empty()), "{all:?}");
    let all: Vec<_> = all.into_iter().filter(|details| !zombie(details)).collect();
    assert_eq!(all.len(), 2, "{all:?}");
    let gateway = all.iter().find(|details| !details.command.contains("--role")).unwrap();
    assert!(gateway.command.contains("script.toml"), "{gateway:?}");
    assert_eq!(gateway.cwd.as_deref(), Some(stage.path("").as_str().trim_end_matches('/')));
    assert!(gateway.state.is_some() && gateway.rss_kib > Some(0), "{gateway:?}");
    let listens = |details: &Details| {
        let mut sockets = details.sockets.iter();
        sockets.any(|socket| socket.state == "listen" && socket.local.to_string() == stage.address())
    };
    assert!(listens(gateway), "{gateway:?}");
    let environment = gateway.environment.as_ref().unwrap();
    assert_eq!(environment["STELAE_PROCESS"], "gateway");
    for secret in ["STELAE_CONTROL_TOKEN", "OWN_KEY"] {
        assert!(environment[secret].starts_with("sha256:"), "{environment:?}");
    }
    // It is alive and has cleared its environment, which is not the same as one that cannot be read.
    let child = all.iter().find(|details| details.command.contains("--role")).unwrap();
    assert!(child.environment.as_ref().unwrap().is_empty() && child.unreadable.is_empty(), "{child:?}");
    let log = &ending.snapshot.logs[0];
    assert_eq!((log.process.as_str(), log.path.as_str()), ("gateway", stage.log().as_str()));
    assert_eq!((log.bytes, log.left_out_bytes), (fs::metadata(stage.log()).unwrap().len(), 0));
    let rungs: Vec<_> = ending.snapshot.probes.history.iter().collect();
    assert!(rungs.iter().any(|probe| probe.rung == "http" && probe.status.contains("404")), "{rungs:?}");
}

#[test]
fn a_secret_that_a_service_writes_down_is_in_its_log_only() {
    let (stage, ending, token) = looked_at();
    assert_eq!(token.len(), 32);
    assert_eq!(ending.snapshot.logs[0].lines[0], "STELAE_CONTROL_TOKEN=(secret)");
    let said = format!("{:?}", ending.events);
    let snapshot = fs::read_to_string(stage.path("evidence/snapshot.json")).unwrap();
    let teardown = fs::read_to_string(stage.path("evidence/teardown.json")).unwrap();
    for kept in [said, snapshot, teardown] {
        assert!(!kept.contains(&token) && !kept.contains("hunter2-of-a-service"), "{kept}");
    }
}

#[test]
fn a_start_that_fails_early_leaves_no_evidence_of_the_start_before() {
    let stage = Stage::new(&TALKATIVE);
    stage.end_by_term(up(&stage));
    fs::remove_file(stage.path("home/proxy.json")).unwrap();
    let ended = stage.start(&TALKATIVE).wait();
    assert_eq!(ended.code, 40, "{}", ended.stdout);
    for name in ["snapshot.json", "teardown.json"] {
        assert!(!stage.path("evidence").join(name).exists(), "{name}");
    }
}

#[test]
fn evidence_that_cannot_be_kept_keeps_nothing_alive() {
    let stage = Stage::new(&TALKATIVE);
    // A file where the folder belongs: whoever the tests run as, nothing can be written below it.
    fs::write(stage.path("evidence"), "in the way").unwrap();
    let run = up(&stage);
    run.signal(rustix::process::Signal::TERM);
    let ended = run.wait();
    assert_eq!(ended.code, 143, "{}", ended.stdout);
    assert!(ended.stdout.contains("the evidence is incomplete from here on"), "{}", ended.stdout);
    assert_eq!(stelae_tests::alive(stage.path("").as_str().trim_end_matches('/')), Vec::<String>::new());
}
