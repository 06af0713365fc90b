//! What `cargo xtask bench gateway` does, with the gateway as it was built for tests: that it looks at every answer, and that
//! its figures are there. What they are is nobody's business here.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::Failure;
use stelae_model::bench::Report;
use stelae_model::env::declared::{STELAE_BIN_DIR, STELAE_ROOT};
use stelae_model::env::{Environment, Given, Layers};
use stelae_run::bench::{Bench, GATEWAYS, Gateway};
use stelae_run::process::tree;
use stelae_run::signals::Interrupt;

const GATEWAY: &str = env!("CARGO_BIN_EXE_stelae-gateway");
const FIXTURE: &str = env!("CARGO_BIN_EXE_mcp-fixture");

/// Services are told apart by their labels, and a bench always gives the same ones.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn bench(folder: &Utf8Path, gateway: &'static Gateway, server: &Utf8Path) -> Result<Report, Failure> {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process =
        vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("HOME".to_owned(), folder.to_string())];
    let given = vec![Given::of::<STELAE_ROOT>(folder.as_str()), Given::of::<STELAE_BIN_DIR>(folder.as_str())];
    let environment = Environment::resolve(&Layers { given, process, ..Layers::default() }).unwrap();
    let bench = Bench {
        rounds: 2,
        calls: 9,
        clients: 4,
        calls_each: 7,
        gateways: vec![(gateway, GATEWAY.into())],
        server: server.to_owned(),
        folder: folder.to_owned(),
    };
    let report = bench.carry_out(&environment, &Interrupt::never(), &mut |_, _| {});
    let us = i32::try_from(std::process::id()).unwrap();
    assert_eq!(tree::descendants(us), [], "something is left");
    report
}

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
    (folder, path)
}

/// A server that starts the fixture otherwise than it was told to: `$1` is its label, `$2` its tool.
fn liar(folder: &Utf8Path, args: &str) -> Utf8PathBuf {
    let path = folder.join("liar");
    std::fs::write(&path, format!("#!/bin/sh\nexec {FIXTURE} {args}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn every_call_is_counted_and_every_figure_is_there() {
    let (_kept, folder) = folder();
    let report = bench(&folder, &GATEWAYS[0], FIXTURE.into()).unwrap();
    let row = &report.rows[1];
    let crowd = row.crowd.unwrap();
    assert_eq!((crowd.asked, crowd.right, crowd.wrong, crowd.missing), (56, 56, 0, 0));
    let figures = [row.p50_ms, row.p99_ms, row.listed_ms, report.rows[0].p50_ms, report.rows[0].listed_ms];
    assert!(figures.iter().all(|figure| *figure > 0.0), "{row:?}");
    assert_eq!(report.aims.len(), 4);
    assert!(report.aims.iter().all(|aim| aim.measured.is_some()), "{:?}", report.aims);
    assert!(report.aims[1].holds);
    let named: Vec<_> = report.rows.iter().map(|row| row.target.as_str()).collect();
    assert_eq!(named, ["stdio directly", "stelae-gateway"]);
}

#[test]
fn an_answer_of_the_wrong_server_is_no_figure() {
    let (_kept, folder) = folder();
    let failure = bench(&folder, &GATEWAYS[0], &liar(&folder, "other \"$2\"")).unwrap_err();
    assert_eq!(failure.kind, "bench-target");
    assert_eq!(failure.why, [r#"answered "other:echo_a:0" in place of "a:echo_a:0""#]);
}

#[test]
fn a_gateway_that_ends_is_told_with_its_log() {
    let (_kept, folder) = folder();
    // Ours does not know how another is started.
    let other = Gateway::named("mcp-hub").unwrap();
    let failure = bench(&folder, other, FIXTURE.into()).unwrap_err();
    assert_eq!(failure.kind, "bench-target");
    assert!(failure.why[0].starts_with("it ended with"), "{failure}");
    assert!(!failure.log_tail.is_empty(), "{failure}");
}
