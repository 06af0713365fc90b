//! What a verb says to whoever watches over it: by when it is over, so that output which nobody reads holds nothing up.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stelae_tests::{Home, Source, programs};

/// No silence is as long.
const SAYS_WITHIN: Duration = Duration::from_secs(300);

/// The seconds of each `over-in` that a verb says, in order. This test is its outer half, and hears it to its end.
fn ends(args: &[&str]) -> Vec<u64> {
    let folder = stelae_tests::private_folder();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("tmp")).unwrap();
    fs::write(path("live.json"), "").unwrap();
    let source = Source::of_working_tree();
    let (ours, theirs) = UnixStream::pair().unwrap();
    #[allow(clippy::disallowed_methods, reason = "it is the outer half that is played")]
    let mut inner = Command::new(programs().xtask.as_std_path())
        .args(["--guarded", "guard", "--live"])
        .arg(path("live.json"))
        .args(["--format", "json"])
        .args(args)
        .current_dir(source.path())
        .env_clear()
        // There is no cargo and no npm: a verb that needs one says so at once.
        .envs([("PATH", path("bin")), ("HOME", path("home")), ("TMPDIR", path("tmp"))])
        .env("STELAE_CACHE_HOME", path("cache"))
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(fs::File::create(path("stderr")).unwrap())
        .spawn()
        .unwrap();
    ours.set_read_timeout(Some(SAYS_WITHIN)).unwrap();
    let said: Vec<Value> =
        BufReader::new(ours).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    inner.wait().unwrap();
    let stderr = fs::read_to_string(path("stderr")).unwrap();
    assert!(said.last().is_some_and(|last| last.get("ending").is_some()), "{args:?}: {said:?}\n{stderr}");
    said.iter().filter_map(|message| Some(message.get("over-in")?.as_u64()? / 1000)).collect()
}

/// No end may come sooner than the verb's own limits let it.
#[test]
fn a_verb_that_has_an_end_says_when_before_each_of_its_parts() {
    const MINUTE: u64 = 60;
    let tools = ends(&["tools", "install", "codex", "mcp-proxy", "--limit-s", "7"]);
    assert!(tools.len() == 2 && tools.iter().all(|&end| end > 7), "{tools:?}");
    let at_least = |parts: usize, limit: u64, args: &[&str]| {
        let ends = ends(args);
        assert!(ends.len() == parts && ends.iter().all(|&end| end > limit), "{args:?}: {ends:?}");
    };
    at_least(1, 30 * MINUTE, &["bench", "gateway"]);
    at_least(2, 25 * MINUTE, &["selftest", "--only", "2"]);
    at_least(2, 2 * MINUTE, &["soak", "--runs", "1", "--jobs", "1", "--load", "0", "--kill", "never"]);
    at_least(1, 40 * MINUTE, &["ci", "--only", "format"]);
    at_least(1, 11 * 15 * MINUTE, &["ci", "--only", "peers"]);
    at_least(1, 21 * MINUTE + 5, &["restart", "--budget-s", "5"]);
    // One that is rendered, and fails of what is looked at after.
    let home = Home::new();
    for args in [&["env", "init"][..], &["bundle", "install", "core"], &["render-proxy"]] {
        let ended = home.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    }
    let set = |name: &str, folder: &str| format!("{name}={}", home.path().join(folder));
    let (config, state) = (set("STELAE_CONFIG_HOME", "config"), set("STELAE_STATE_HOME", "state"));
    let held = ["--set", &config, "--set", &state, "restart", "--attached", "--budget-s", "5", "--calls", ""];
    at_least(1, 1000 + 21 * MINUTE + 5, &[&held[..], &["--lifetime-s", "1000"]].concat());
    // Nobody knows when.
    at_least(0, 0, &held);
}
