//! The official conformance suite, as a judge of the gateway.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use camino::Utf8Path;
use serde::Deserialize;
use serde_json::json;

use crate::expected::disagreements;
use crate::gateway::{Gateway, built};
use crate::handed::{Handed, need, need_also};
use crate::run::run;

/// The fixture that has the suite's names.
const FIXTURE: &str = "mcp-everything";

/// One check, as the judge writes it down; it writes more than that.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    id: String,
    status: String,
    error_message: Option<String>,
}

/// Every check of the suite as `scenario/check`, with what the judge says of one that did not pass.
fn judge(handed: &Handed, url: &str) -> BTreeMap<String, Option<String>> {
    let folder = stelae_tests::private_folder();
    let results = Utf8Path::from_path(folder.path()).unwrap().join("results");
    let mut command = Command::new(handed.path("conformance"));
    command.args(["server", "--url", url, "--output-dir", results.as_str()]);
    let ran = run(command.env("NO_PROXY", "127.0.0.1"));
    // `Running active suite (30 scenarios) against …`: as many have to have a result, or it broke off.
    let announced = ran.stdout.split_once(" scenarios)").and_then(|(before, _)| before.rsplit_once('('));
    let announced: usize = announced.expect("how many scenarios there are").1.parse().unwrap();
    let mut found = BTreeMap::new();
    let (mut scenarios, mut failed) = (0, false);
    for entry in results.read_dir_utf8().unwrap().map(Result::unwrap) {
        let text = fs::read_to_string(entry.path().join("checks.json")).unwrap();
        let checks: Vec<Check> = serde_json::from_str(&text).unwrap();
        let scenario = scenario(entry.file_name());
        assert!(!checks.is_empty(), "{scenario} checked nothing");
        scenarios += 1;
        for check in checks {
            let said = found.entry(format!("{scenario}/{}", check.id)).or_insert(None);
            failed |= check.status == "FAILURE";
            if !matches!(check.status.as_str(), "SUCCESS" | "INFO") {
                // One that was made more than once has failed if it failed once.
                *said = Some(format!("{}: {}", check.status, check.error_message.unwrap_or_default()));
            }
        }
    }
    assert_eq!(scenarios, announced, "{}\n{}", ran.stdout, ran.stderr);
    // Its own verdict is no other than that of its checks; it is not as strict about warnings as we are.
    assert_eq!(ran.code, Some(i32::from(failed)), "{}\n{}", ran.stdout, ran.stderr);
    found
}

/// `tools-list`, of `server-tools-list-2026-11-20T16-25-02-296Z`.
fn scenario(folder: &str) -> &str {
    const TIME: usize = "-2026-11-20T16-25-02-296Z".len();
    let name = folder.strip_prefix("server-").expect("a suite for servers");
    &name[..name.len() - TIME]
}

#[test]
fn the_suite_passes_through_the_gateway() {
    let lacks =
        || built(FIXTURE).is_none().then(|| format!("the gateway's package has no program {FIXTURE}"));
    let Some(handed) = need_also("conformance", &["conformance"], lacks) else { return };
    let gateway = Gateway::start(&json!({"everything": {"command": built(FIXTURE).unwrap()}}));
    let found = judge(&handed, &gateway.endpoint());
    eprintln!("conformance: {} checks", found.len());
    let wrong = disagreements(include_str!("expected-failures.toml"), &found);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    gateway.stop();
}

/// A judge who is content with everybody would show nothing: in front of a server without the suite's names the checks that
/// need them fail, and the others do not.
#[test]
fn the_suite_finds_what_is_not_there() {
    let Some(handed) = need("conformance-control", &["conformance", "server-everything"]) else { return };
    let server = json!({"command": handed.path("server-everything"), "args": ["stdio"]});
    let gateway = Gateway::start(&json!({"everything": server}));
    let found = judge(&handed, &gateway.endpoint());
    let said = |id: &str| found.get(id).unwrap_or_else(|| panic!("no {id} among {:?}", found.keys()));
    for id in ["server-initialize/server-initialize", "ping/ping", "tools-list/tools-list"] {
        assert_eq!(*said(id), None, "{id}");
    }
    for id in ["tools-call-image/tools-call-image", "prompts-get-with-image/prompts-get-with-image"] {
        assert!(said(id).as_ref().is_some_and(|said| said.starts_with("FAILURE")), "{id}: {:?}", said(id));
    }
    gateway.stop();
}
