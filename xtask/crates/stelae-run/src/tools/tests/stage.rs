//! There is an installation, or there is none: whatever came in between.

use std::fs;
use std::thread;
use std::time::Duration;

use stelae_model::ExitCode;

use super::{Machine, integrity};
use crate::deadline::Deadline;
use crate::tools::Outcome;
use crate::tools::shelf::RECORD;

#[test]
fn what_was_installed_is_there_and_is_not_installed_again() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    let path = machine.shelf().program("judge").unwrap();
    assert_eq!(path, machine.path.join("cache/tools/judge/1.0.0/node_modules/.bin/judge"));
    assert!(path.is_file());
    let calls = machine.calls().len();
    assert_eq!(machine.install(), Ok(Outcome::WasThere));
    assert_eq!(machine.calls().len(), calls);
    assert_eq!(machine.entries(), [".content-1.0.0", ".lock", "1.0.0"]);
    // It is there, and nobody can run it.
    fs::remove_file(machine.path.join("bin/node")).unwrap();
    let path = machine.path.join("bin").to_string();
    let failure =
        machine.install_with(&[("PATH", &path)], Deadline::after(Duration::from_secs(60))).unwrap_err();
    assert_eq!(failure.kind, "toolchain-missing");
}

#[test]
fn an_installation_that_was_cut_short_is_none() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    // Killed while it was staged; and, by somebody else's hand, a folder that is not whole.
    let folder = machine.path.join("cache/tools/judge");
    for name in [".stage-1.0.0/node_modules", ".gone-0.9.0", "1.0.0/node_modules/.bin"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    fs::copy("/bin/true", folder.join("1.0.0/node_modules/.bin/judge")).unwrap();
    assert_eq!(machine.shelf().program("judge").unwrap_err().kind, "tool-not-installed");
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    assert_eq!(machine.entries(), [".content-1.0.0", ".lock", "1.0.0"]);
    // A program that has gone since.
    fs::remove_file(machine.shelf().program("judge").unwrap()).unwrap();
    assert_eq!(machine.shelf().program("judge").unwrap_err().exit_code, ExitCode::PrerequisiteMissing);
    assert_eq!(machine.install(), Ok(Outcome::Installed));
}

#[test]
fn an_installation_of_another_pin_is_replaced() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    machine.install().unwrap();
    let other = integrity("npm").replace('A', "D");
    machine.pin("npm", &other, "");
    assert_eq!(machine.shelf().program("judge").unwrap_err().kind, "tool-not-installed");
    machine.npm("1.5.0", &other);
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    assert_eq!(machine.entries(), [".content-1.0.0", ".lock", "1.0.0"]);
    let record = fs::read_to_string(machine.path.join("cache/tools/judge/1.0.0").join(RECORD)).unwrap();
    assert!(record.contains(&other), "{record}");
}

#[test]
fn an_installation_that_was_changed_is_not_used_and_is_made_anew() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    let folder = machine.path.join("cache/tools/judge/1.0.0");
    let program = folder.join("node_modules/.bin/judge");
    type Change<'a> = &'a dyn Fn();
    let changes: [(Change<'_>, &str); 5] = [
        (&|| assert!(fs::copy("/bin/false", &program).is_ok()), "node_modules/.bin/judge was a program"),
        (
            &|| fs::write(folder.join("node_modules/more.js"), "").unwrap(),
            "node_modules/more.js was not there",
        ),
        (&|| fs::remove_file(folder.join("package-lock.json")).unwrap(), "package-lock.json was a file"),
        // With what is remembered of each file gone, and with it spoilt.
        (
            &|| {
                fs::remove_file(machine.path.join("cache/tools/judge/.content-1.0.0")).unwrap();
                fs::copy("/bin/false", &program).unwrap();
            },
            "its digest is not the one in its record",
        ),
        (
            &|| {
                fs::write(machine.path.join("cache/tools/judge/.content-1.0.0"), "{").unwrap();
                fs::copy("/bin/false", &program).unwrap();
            },
            "its digest is not the one in its record",
        ),
    ];
    for (change, said) in changes {
        machine.install().unwrap();
        assert_eq!(machine.install(), Ok(Outcome::WasThere));
        assert_eq!(machine.shelf().program("judge").unwrap(), program);
        change();
        let failure = machine.shelf().program("judge").unwrap_err();
        assert_eq!(
            (failure.exit_code, failure.kind.as_str()),
            (ExitCode::PrerequisiteMissing, "tool-changed"),
            "{said}"
        );
        assert!(failure.why[0].starts_with(said), "{failure}");
        assert_eq!(failure.hint.as_deref(), Some("cargo xtask tools install judge"));
        assert_eq!(machine.install(), Ok(Outcome::Installed), "{said}");
        assert_eq!(machine.shelf().program("judge").unwrap(), program);
    }
}

#[test]
fn an_installation_whose_content_was_not_taken_down_is_none() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    machine.install().unwrap();
    let record = machine.path.join("cache/tools/judge/1.0.0").join(RECORD);
    let text = fs::read_to_string(&record).unwrap();
    let without: Vec<_> = text.lines().filter(|line| !line.contains("\"content\"")).collect();
    assert_eq!(without.len(), text.lines().count() - 1);
    fs::write(&record, without.join("\n").replace(",\n}", "\n}")).unwrap();
    assert_eq!(machine.shelf().program("judge").unwrap_err().kind, "tool-not-installed");
    assert_eq!(machine.install(), Ok(Outcome::Installed));
}

#[test]
fn an_installation_whose_parts_were_not_compared_is_made_again() {
    let machine = Machine::new("npm", "");
    let (own, part) = (integrity("npm"), integrity("npm").replace('A', "D"));
    machine.npm_of("1.5.0", &[("judge", &own), ("part", &part)]);
    machine.install().unwrap();
    machine.pin("npm", &own, &format!("parts = {{ part = \"{part}\" }}"));
    assert_eq!(machine.shelf().program("judge").unwrap_err().kind, "tool-not-installed");
    assert_eq!(machine.install(), Ok(Outcome::Installed));
    assert_eq!(machine.install(), Ok(Outcome::WasThere));
}

#[test]
fn an_installer_that_fails_hangs_or_forgets_leaves_nothing() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    machine.program("npm", "mkdir node_modules; echo 'npm error no such package' >&2; exit 1");
    let failure = machine.install().unwrap_err();
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "command-failed"));
    assert!(failure.log_tail.iter().any(|line| line.contains("no such package")), "{failure}");
    machine.assert_nothing();

    machine.program("npm", "echo 'npm error code EAI_AGAIN'; exit 1");
    let failure = machine.install().unwrap_err();
    assert_eq!(
        (failure.exit_code, failure.kind.as_str()),
        (ExitCode::PrerequisiteMissing, "registry-unreachable")
    );
    machine.assert_nothing();

    machine.program("npm", "mkdir node_modules; sleep 600");
    let failure = machine.install_with(&[], Deadline::after(Duration::from_millis(300))).unwrap_err();
    assert_eq!(failure.kind, "command-timed-out");
    machine.assert_nothing();

    machine.npm("1.5.0", &integrity("npm"));
    machine.pin("npm", &integrity("npm"), "install_script = true");
    let text = fs::read_to_string(machine.path.join("root/config/tools.toml")).unwrap();
    let text = text.replace("[\"judge\"]", "[\"judge\", \"jury\"]");
    fs::write(machine.path.join("root/config/tools.toml"), text).unwrap();
    let failure = machine.install().unwrap_err();
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "program-not-there"));
    assert!(failure.on[0].ends_with("node_modules/.bin/jury"), "{failure}");
    machine.assert_nothing();
}

#[test]
fn of_two_installations_at_once_one_waits() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    let mut outcomes = thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| machine.install()));
        both.map(|one| one.join().unwrap().unwrap())
    });
    outcomes.sort_by_key(|outcome| *outcome == Outcome::WasThere);
    assert_eq!(outcomes, [Outcome::Installed, Outcome::WasThere]);
    assert_eq!(machine.calls().len(), 1, "{:?}", machine.calls());
}

#[test]
fn another_installation_is_waited_for_until_the_deadline() {
    let machine = Machine::new("npm", "");
    machine.npm("1.5.0", &integrity("npm"));
    let npm = fs::read_to_string(machine.path.join("bin/npm")).unwrap();
    machine.program("npm", &format!("touch $HOME/runs; until [ -e $HOME/on ]; do sleep 0.02; done\n{npm}"));
    thread::scope(|scope| {
        let first = scope.spawn(|| machine.install());
        let begun = Deadline::after(Duration::from_secs(30));
        while !machine.path.join("home/runs").exists() {
            assert!(!begun.passed(), "it does not begin");
            thread::sleep(Duration::from_millis(5));
        }
        let failure = machine.install_with(&[], Deadline::after(Duration::from_millis(50))).unwrap_err();
        fs::write(machine.path.join("home/on"), "").unwrap();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "tool-busy"));
        assert!(failure.hint.as_ref().unwrap().contains("fuser -v /"), "{failure}");
        assert_eq!(first.join().unwrap(), Ok(Outcome::Installed));
    });
}
