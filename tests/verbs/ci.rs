//! `ci`: it counts the tests that were executed, and a signal to it ends what it started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use stelae_tests::{Ended, Source, Xtask, alive, until};

/// A folder with a `cargo` that runs two targets, of which the second executes so many tests.
fn cargo_that_executes(count: &str) -> tempfile::TempDir {
    let bin = tempfile::tempdir().unwrap();
    let cargo = bin.path().join("cargo");
    let result = "ignored; 0 measured; 7 filtered out; finished in 0.01s";
    let script = format!(
        "#!/bin/sh\n\
         echo '     Running unittests src/lib.rs (target/debug/deps/a-0123456789abcdef)' >&2\n\
         echo 'test result: ok. 3 passed; 0 failed; 0 {result}'\n\
         echo '     Running tests/it/main.rs (target/debug/deps/it-0123456789abcdef)' >&2\n\
         echo '{count}; 9 {result}'\n"
    );
    fs::write(&cargo, script).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

fn ci_tests(source: &Source, count: &str) -> Ended {
    let bin = cargo_that_executes(count);
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    Xtask::new(source.path(), &["--format", "json", "ci", "--only", "tests"]).env("PATH", &path).run()
}

#[test]
fn fewer_tests_than_the_floor_are_no_pass() {
    let source = Source::of_working_tree();
    let floors = "version = 1\n[floors]\n\"a src/lib.rs\" = 3\n\"it tests/it/main.rs\" = 5\n";
    source.write("tests/floors.toml", floors);
    let enough = ci_tests(&source, "test result: ok. 5 passed; 0 failed");
    assert_eq!(enough.verdict(), (0, String::new()), "{}", enough.stderr);
    // The document is whole, and what the tests said was shown.
    assert_eq!(enough.json()["steps"][0]["step"], "tests");
    assert!(enough.stderr.contains("test result: ok. 5 passed"), "{}", enough.stderr);
    for (count, why) in [
        ("test result: ok. 4 passed; 0 failed", "it tests/it/main.rs: it executed 4, and its floor is 5"),
        ("killed by a signal", "it tests/it/main.rs: it executed 0, and its floor is 5"),
    ] {
        let fewer = ci_tests(&source, count);
        assert_eq!(fewer.verdict(), (10, "tests-below-floor".to_owned()), "{}", fewer.stderr);
        assert!(fewer.stderr.contains(why), "{}", fewer.stderr);
    }
    source.write("tests/floors.toml", &(floors.to_owned() + "\"gone src/lib.rs\" = 1\n"));
    let gone = ci_tests(&source, "test result: ok. 5 passed; 0 failed");
    assert!(gone.stderr.contains("gone src/lib.rs: it was not run, and its floor is 1"), "{}", gone.stderr);
    source.write("tests/floors.toml", "version = 1\n[floors]\n\"a src/lib.rs\" = 3\n");
    let new = ci_tests(&source, "test result: ok. 5 passed; 0 failed");
    assert_eq!(new.verdict(), (10, "tests-below-floor".to_owned()));
    assert!(new.stderr.contains("it tests/it/main.rs: it executed 5, and it has no floor"), "{}", new.stderr);
    // The command that writes the generated pages gives it one.
    assert_eq!(Xtask::new(source.path(), &["docs"]).run().code, 0);
    let raised = fs::read_to_string(source.path().join("tests/floors.toml")).unwrap();
    assert!(raised.ends_with("\"a src/lib.rs\" = 3\n\"it tests/it/main.rs\" = 5\n"), "{raised}");
    assert_eq!(ci_tests(&source, "test result: ok. 5 passed; 0 failed").code, 0);
}

#[test]
fn a_signal_to_ci_alone_ends_everything_below_it() {
    let source = Source::of_working_tree();
    let bin = stelae_tests::private_folder();
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
