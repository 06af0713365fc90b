//! A command of cargo that runs tests: shown while it runs, and counted afterwards.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::floors::{Counted, FILE, Floors, Wanted};
use stelae_model::{ExitCode, Failure};
use stelae_run::files::{Readable, create_whole, limits, read_text, read_untrusted, replace};
use stelae_run::watch::Follower;
use xshell::{Cmd, Shell, cmd};

use super::run;
use crate::context::Context;
use crate::print::Printer;

/// How often what the tests wrote is shown.
const SHOW_EVERY: Duration = Duration::from_millis(50);

/// Runs `test` with its output shown as it comes, and compares what it executed with the floors.
///
/// # Errors
/// Exit 10: `ci-step-failed`, `tests-below-floor`; 20, `test-floors`.
pub(super) fn check(
    context: &Context,
    shell: &Shell,
    step: &str,
    test: &dyn Fn(Cmd) -> Cmd,
    wanted: Wanted<'_>,
) -> Result<Counted, Failure> {
    let floors = read_floors(context.root())?;
    let log = folder(context.root()).join(format!("{step}.log"));
    let begun =
        fs::create_dir_all(folder(context.root())).and_then(|()| replace(&log, b"", Readable::ByAnyone));
    begun.map_err(|error| unusable(&log, &error))?;
    // One file for both outputs: cargo says on stderr which target it starts, and the target on stdout what it executed.
    let redirected = test(cmd!(shell, "sh -c {REDIRECTED} {log}"));
    let green = shown(&context.printer, &log, || run(step, &redirected));
    let bytes = read_untrusted(&log, limits::TRANSCRIPT).map_err(|error| unusable(&log, &error))?;
    let counted = Counted::read(&String::from_utf8_lossy(&bytes));
    keep(context.root(), step, &counted)?;
    // A red test is the first thing to know.
    green?;
    floors.check(&counted, wanted).map_err(|failure| failure.on(log.to_string()))?;
    Ok(counted)
}

/// `$0` is the file, and the rest the command.
const REDIRECTED: &str = r#"exec "$@" >>"$0" 2>&1"#;

/// Shows what comes into the file while the work is done.
fn shown<T>(printer: &Printer, log: &Utf8Path, work: impl FnOnce() -> T) -> T {
    let (over, is_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut follower = Follower::new(log, 0);
            let mut show = |line: &str| printer.talk(line);
            while is_over.recv_timeout(SHOW_EVERY) == Err(RecvTimeoutError::Timeout) {
                while follower.poll(&mut show) > 0 {}
            }
            follower.finish(&mut show);
        });
        // Dropped when the work has ended, also by a panic.
        let _over = over;
        work()
    })
}

fn folder(root: &Utf8Path) -> Utf8PathBuf {
    root.join("target/xtask/ci")
}

fn executed(root: &Utf8Path, step: &str) -> Utf8PathBuf {
    folder(root).join(format!("{step}.executed.json"))
}

fn unusable(path: &Utf8Path, error: &std::io::Error) -> Failure {
    let what = "what the tests executed cannot be counted";
    Failure::new(ExitCode::StepFailed, "tests-uncounted", what)
        .on(path.to_string())
        .because(error.to_string())
}

/// Keeps it for the command that raises the floors.
fn keep(root: &Utf8Path, step: &str, counted: &Counted) -> Result<(), Failure> {
    let path = executed(root, step);
    let text =
        serde_json::to_string_pretty(counted).map_err(|error| Failure::unexpected(error.to_string()))?;
    fs::remove_file(&path)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })
        .and_then(|()| create_whole(&path, text.as_bytes()))
        .map_err(|error| unusable(&path, &error))
}

fn read_floors(root: &Utf8Path) -> Result<Floors, Failure> {
    let path = root.join(FILE);
    let text = read_text(&path, ExitCode::Environment, "test-floors", "the floors of the tests")?;
    Floors::parse(path.as_str(), &text)
}

/// The floors, raised to what the last `ci` of this root executed.
///
/// # Errors
/// Exit 20, `test-floors`: the file cannot be read.
pub(crate) fn raised_floors(root: &Utf8Path) -> Result<String, Failure> {
    let floors =
        if root.join(FILE).symlink_metadata().is_ok() { read_floors(root)? } else { Floors::default() };
    let steps = ["tests", "peers"].into_iter();
    // Without a run of `ci` there is nothing to raise them to.
    let counted = steps.filter_map(|step| {
        let bytes = read_untrusted(executed(root, step), limits::RECORD).ok()?;
        serde_json::from_slice::<Counted>(&bytes).ok()
    });
    Ok(counted.fold(floors, |floors, counted| floors.raised(&counted)).text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_raised_to_what_the_last_run_executed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        fs::create_dir_all(root.join("tests")).unwrap();
        fs::create_dir_all(super::folder(root)).unwrap();
        let nothing = raised_floors(root).unwrap();
        assert_eq!(nothing, Floors::default().text());
        let run = |passed: u64| {
            let output = format!(
                "     Running unittests src/lib.rs (target/debug/deps/a-0123456789abcdef)\n\
                 test result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
            );
            keep(root, "tests", &Counted::read(&output)).unwrap();
            raised_floors(root).unwrap()
        };
        let seven = run(7);
        assert!(seven.ends_with("\"a src/lib.rs\" = 7\n"), "{seven}");
        fs::write(root.join(FILE), &seven).unwrap();
        assert_eq!(run(3), seven);
        assert_eq!(run(8), seven.replace("= 7", "= 8"));
        fs::write(root.join(FILE), "nonsense").unwrap();
        assert_eq!(raised_floors(root).unwrap_err().kind, "test-floors");
    }
}
