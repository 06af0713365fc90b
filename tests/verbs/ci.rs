//! `ci`: a signal to it ends what it started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use stelae_tests::{Source, Xtask, alive, until};

#[test]
fn a_signal_to_ci_alone_ends_everything_below_it() {
    let source = Source::of_working_tree();
    let bin = tempfile::tempdir().unwrap();
    let mark = bin.path().to_str().unwrap().to_owned();
    let cargo = bin.path().join("cargo");
    // Its first command, and what a test of it may do: somebody in a session of his own, who does not mind SIGTERM.
    let script = format!(
        "#!/bin/sh\nsetsid sh -c 'trap \"\" HUP; sleep 600; : {mark}' &\ntouch {mark}/runs\nsleep 600; : {mark}\n"
    );
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let path = format!("{mark}:{}", std::env::var("PATH").unwrap());
        let ci = Xtask::new(source.path(), &["--format", "json", "ci"]).env("PATH", &path);
        // Whoever started the tests may have it ignored, and that is respected.
        let ci = ci.start_under(&["env", "--default-signal=HUP"]);
        until("the first command", || bin.path().join("runs").exists());
        ci.signal(signal);
        let ended = ci.wait();
        assert_eq!(ended.verdict(), (code, "interrupted".to_owned()), "{}", ended.stderr);
        assert_eq!(alive(&mark), Vec::<String>::new());
        fs::remove_file(bin.path().join("runs")).unwrap();
    }
}
