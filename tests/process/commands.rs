//! Commands: each ends, whatever it does.

use std::time::Duration;

use stelae_model::lifecycle::Ended;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::process::{Family, Finished, Limits, Stream, run};
use stelae_run::record::Recorder;
use stelae_run::signals::Interrupt;

use crate::support::{Sandbox, isolated, runs, until};

const LONG: Duration = Duration::from_secs(3600);

fn carry_out(sandbox: &Sandbox, script: &str, deadline: Deadline) -> Result<Finished, Failure> {
    carry_out_heard(sandbox, script, deadline, &Interrupt::never(), &mut |_, _| ())
}

fn carry_out_heard(
    sandbox: &Sandbox,
    script: &str,
    deadline: Deadline,
    interrupt: &Interrupt,
    on_line: &mut dyn FnMut(Stream, &str),
) -> Result<Finished, Failure> {
    let (stdout, stderr) = (sandbox.path("stdout"), sandbox.path("stderr"));
    let limits = Limits { deadline, interrupt, stdout: &stdout, stderr: &stderr };
    run(&sandbox.shell(script), &limits, on_line)
}

#[test]
fn output_environment_and_status_are_what_they_are() {
    isolated("commands::output_environment_and_status_are_what_they_are", |sandbox| {
        let mut lines = Vec::new();
        let script = "echo one; echo two >&2; printf three; cat; env | sort > all; exit 3";
        let never = Interrupt::never();
        let finished =
            carry_out_heard(sandbox, script, Deadline::after(LONG), &never, &mut |stream, line| {
                lines.push((stream, line.to_owned()));
            })
            .unwrap();
        assert_eq!((finished.status, finished.leaky), (Ended::Status(3), false));
        assert_eq!((finished.stdout_text.as_str(), finished.stderr_text.as_str()), ("one\nthree", "two\n"));
        lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
        let texts: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(texts, ["one", "three", "two"]);
        // PWD, OLDPWD, SHLVL and _ are the shell's own.
        let all = std::fs::read_to_string(sandbox.path("all")).unwrap();
        let names: Vec<&str> =
            all.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        let names: Vec<&str> =
            names.into_iter().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
        assert_eq!(names, ["PATH", "STELAE_PROCESS", "STELAE_TEST_FOLDER"]);
        let failure = finished.success_or_failure().unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "command-failed"));
        assert!(failure.log_tail.contains(&"three".to_owned()), "{failure}");
    });
}

#[test]
fn lines_come_while_it_runs() {
    isolated("commands::lines_come_while_it_runs", |sandbox| {
        // It ends only when its own line has been heard.
        let script = "echo hello; until [ -e heard ]; do sleep 0.01; done";
        let heard = sandbox.path("heard");
        let mut on_line = |_: Stream, line: &str| std::fs::write(&heard, line).unwrap();
        let finished =
            carry_out_heard(sandbox, script, Deadline::after(LONG), &Interrupt::never(), &mut on_line)
                .unwrap();
        assert!(finished.status.is_success());
    });
}

#[test]
fn a_command_that_hangs_is_stopped_with_its_tree() {
    isolated("commands::a_command_that_hangs_is_stopped_with_its_tree", |sandbox| {
        let _family = Family::enter().unwrap();
        let script = "trap '' TERM; echo before; setsid sleep 1000 & echo $! > pid; sleep 1000";
        let failure = carry_out(sandbox, script, Deadline::after(Duration::from_secs(5))).unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "command-timed-out"));
        assert_eq!(failure.log_tail, ["before"]);
        let pid = std::fs::read_to_string(sandbox.path("pid")).unwrap().trim().parse().unwrap();
        assert!(!runs(pid), "it was gone when `run` returned");
    });
}

#[test]
fn a_passed_budget_is_124() {
    isolated("commands::a_passed_budget_is_124", |sandbox| {
        let budget = Deadline::budget(Duration::from_millis(100));
        let failure = carry_out(sandbox, "sleep 1000", budget).unwrap_err();
        assert_eq!(failure.exit_code, ExitCode::BudgetExhausted);
    });
}

#[test]
fn a_grandchild_that_holds_the_output_holds_nobody_up() {
    isolated("commands::a_grandchild_that_holds_the_output_holds_nobody_up", |sandbox| {
        // As our deadline is an hour away, waiting for the grandchild would be noticed.
        let finished = carry_out(sandbox, "sleep 1000 & echo $! > pid", Deadline::after(LONG)).unwrap();
        assert!(finished.leaky && finished.status.is_success());
        let recorder = Recorder::to_listeners(Vec::new());
        recorder.minding_leaks(finished);
        assert!(
            recorder.warnings()[0].starts_with("shell left processes behind"),
            "{:?}",
            recorder.warnings()
        );
        let pid = std::fs::read_to_string(sandbox.path("pid")).unwrap().trim().parse().unwrap();
        until("the end of the leftover", || !runs(pid));
    });
}

#[test]
fn a_signal_to_us_ends_it() {
    for code in [ExitCode::Interrupted, ExitCode::Terminated, ExitCode::Hangup] {
        isolated("commands::a_signal_to_us_ends_it", |sandbox| {
            let interrupt = Interrupt::never();
            let raise = interrupt.clone();
            let failure = carry_out_heard(
                sandbox,
                "echo up; sleep 1000",
                Deadline::after(LONG),
                &interrupt,
                &mut |_, _| {
                    raise.raise(code);
                },
            )
            .unwrap_err();
            assert_eq!((failure.exit_code, failure.kind.as_str()), (code, "interrupted"));
        });
    }
}

#[test]
fn real_signals_are_counted_and_the_first_decides() {
    isolated("commands::real_signals_are_counted_and_the_first_decides", |sandbox| {
        let interrupt = Interrupt::install().unwrap();
        let script = format!("kill -TERM {pid}; sleep 1000", pid = std::process::id());
        let failure =
            carry_out_heard(sandbox, &script, Deadline::after(LONG), &interrupt, &mut |_, _| ()).unwrap_err();
        assert_eq!(failure.exit_code, ExitCode::Terminated);
        assert_eq!(interrupt.count(), 1);
    });
}

#[test]
fn what_is_missing_is_named() {
    isolated("commands::what_is_missing_is_named", |sandbox| {
        let never = Interrupt::never();
        let (stdout, stderr) = (sandbox.path("stdout"), sandbox.path("stderr"));
        let limits =
            Limits { deadline: Deadline::after(LONG), interrupt: &never, stdout: &stdout, stderr: &stderr };
        let kind = |invocation| {
            let failure = run(&invocation, &limits, &mut |_, _| ()).unwrap_err();
            assert_eq!(failure.exit_code, ExitCode::PrerequisiteMissing);
            failure.kind
        };
        let mut missing = sandbox.shell("");
        missing.program = sandbox.path("no-such-program");
        assert_eq!(kind(missing), "program-missing");
        let mut homeless = sandbox.shell("");
        homeless.cwd = sandbox.path("no-such-folder");
        assert_eq!(kind(homeless), "folder-missing");
        let mut text = sandbox.shell("");
        text.program = sandbox.path("text");
        std::fs::write(&text.program, "not a program").unwrap();
        assert_eq!(kind(text), "program-not-executable");
    });
}

#[test]
fn a_flood_is_kept_in_bounds() {
    isolated("commands::a_flood_is_kept_in_bounds", |sandbox| {
        let script = "echo first; yes 0123456789 | head -c 40000000; echo last";
        let finished = carry_out(sandbox, script, Deadline::after(LONG)).unwrap();
        assert!(finished.stdout_text.starts_with("first\n") && finished.stdout_text.ends_with("last\n"));
        assert!(finished.stdout_text.len() < 1_100_000, "{}", finished.stdout_text.len());
        assert!(finished.stdout_text.contains("bytes left out]"));
        // What a program reads has no hole.
        assert_eq!(finished.stdout_whole().unwrap().len(), 40_000_000 + "first\nlast\n".len());
    });
}

#[test]
fn a_flood_costs_bounded_memory() {
    isolated("commands::a_flood_costs_bounded_memory", |sandbox| {
        const KIB: u64 = 200 * 1024;
        let script = format!("yes 0123456789 | head -c {}; echo; echo last", KIB * 1024);
        let finished = carry_out(sandbox, &script, Deadline::after(LONG)).unwrap();
        assert!(finished.status.is_success());
        assert_eq!(finished.tail.last().map(String::as_str), Some("last"));
        // The most that this very process ever had in its memory: the test is all that it does.
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).unwrap();
        let most: u64 = most.trim().parse().unwrap();
        assert!(most < 64 * 1024, "{most} KiB");
        assert_eq!(finished.stdout_whole().unwrap_err().kind, "output-too-large");
    });
}
