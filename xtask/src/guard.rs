//! Which verbs are guarded, and how: see `stelae_run::guardian`.

use std::env;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::ValueEnum;
use stelae_model::env::Environment;
use stelae_model::env::Variable as _;
use stelae_model::env::declared::{STELAE_CACHE_HOME, STELAE_RUN_ID, TMPDIR};
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure, Isolation};
use stelae_run::guardian::{Dead, INNER, LiveFile, Outer, Wanted, decide, guarded, sweep_dead};
use stelae_run::record::run_id;
use stelae_run::signals::Interrupt;
use stelae_run::smoke::{IfExists, Workspace};

use crate::cli::Global;
use crate::context::Context;
use crate::print::Printer;
use crate::verb::Outcome;

/// `--isolation`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsolationFlag {
    /// A PID namespace where it is allowed, and nothing is to stay up; else the two halves alone
    #[default]
    Auto,
    /// Two processes, each of which ends everything when the other dies
    Guard,
    /// The same in a PID namespace, or not at all
    Pidns,
}

/// How a verb is guarded.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    /// It ends with its standard input.
    pub(crate) follows_stdin: bool,
    /// Why something may stay up when it ends.
    pub(crate) stays: Option<&'static str>,
    /// What `--isolation auto` comes to.
    pub(crate) auto: Wanted,
    /// `--isolation` is about what the verb starts, and not about the verb.
    pub(crate) for_others: bool,
    /// What it starts carries the id of a run that it does not make itself.
    pub(crate) names_run: bool,
}

impl Guard {
    /// For a verb that takes everything with it when it ends.
    pub(crate) fn of_everything() -> Self {
        Self { follows_stdin: false, stays: None, auto: Wanted::Auto, for_others: false, names_run: false }
    }

    /// For one that leaves something up.
    pub(crate) fn but_what_stays(why: &'static str) -> Self {
        Self { stays: Some(why), ..Self::of_everything() }
    }
}

/// What a part of a verb may take besides its own limits: to stop what did not keep them, to print, to end. It is for one that
/// hangs, so that later is early enough.
const AND_MORE: Duration = Duration::from_secs(5 * 60);

/// What a sweep leaves to the processes of a dead run: what they guarded is gone, and nobody reads what they say.
const SWEEP: StopLimits = StopLimits { grace: Duration::from_secs(2), ceiling: Duration::from_secs(5) };

/// The outer half: watches over this program, started once more to do the work, and ends as it has ended.
pub(crate) fn watch_over(global: &Global, guard: &Guard, printer: &Printer) -> Outcome {
    // Before anything is started: from here on Ctrl-C means "end it, and say so".
    let interrupt = Interrupt::install()?;
    let context = Context::new(global, printer.clone())?;
    let environment = context.environment()?;
    let folder = environment.get::<STELAE_CACHE_HOME>()?.join("live");
    sweep(&folder, printer);
    let isolation = isolation(global, guard)?;
    let live = LiveFile::create(&folder).map_err(|error| {
        Failure::new(
            ExitCode::PrerequisiteMissing,
            "not-registered",
            "a run cannot be written down where the next start looks for it",
        )
        .on(folder.to_string())
        .because(error.to_string())
        .hint("make room, or name another folder: --set STELAE_CACHE_HOME=PATH")
    })?;
    let env = if guard.names_run { name_run(&environment, &live)? } else { Vec::new() };
    let mut args =
        vec![INNER.to_owned(), isolation.to_string(), "--live".to_owned(), live.path().to_string()];
    args.extend(env::args().skip(1));
    let outer =
        Outer { program: context.program()?, args, env, isolation, follows_stdin: guard.follows_stdin, live };
    let stood = outer.stand(interrupt, &|text| talk(printer, text.to_owned()));
    if stood.is_err() {
        // What the inner half cannot clear any more is cleared now, not by the next start.
        sweep(&folder, printer);
    }
    let stood = stood?;
    for process in &stood.ended {
        talk(printer, format!("note: ended what the verb had left: {process}"));
    }
    // Whatever it ended with: what comes out is in the closed list.
    ExitCode::try_from(stood.code).map_err(Failure::unexpected)
}

/// Prints how it came out, without waiting for whoever does not read it.
pub(crate) fn finish(printer: &Printer, outcome: Outcome) -> ExitCode {
    let code = outcome.as_ref().map_or_else(|failure| failure.exit_code, |&code| code);
    printer.patiently(move |printer| printer.finish(outcome)).unwrap_or(code)
}

/// Says something beside the working half.
fn talk(printer: &Printer, text: String) {
    printer.patiently(move |printer| printer.talk(&text));
}

/// Tells the outer half, if there is one, that this part of the verb is over in so long, whatever happens (a reader of its
/// output may not read, and nothing here gets round to a limit of its own then). The next part says it anew.
pub(crate) fn over_in(limits: Duration) {
    if let Some(guarded) = guarded() {
        guarded.over_in(limits.saturating_add(AND_MORE));
    }
}

/// A folder of its own among the temporary files, for the working files of a verb: made by this process, locked and marked, and
/// nobody else's to look into.
///
/// # Errors
/// Exit 40, `workspace`.
pub(crate) fn scratch(environment: &Environment, verb: &str) -> Result<Workspace, Failure> {
    let temporary = environment.get::<TMPDIR>()?;
    let temporary = temporary.map_or_else(|| Utf8PathBuf::from("/tmp"), |path| path.as_path().to_owned());
    let run = run_id();
    let made = Workspace::create(&temporary.join(format!("stelae-{verb}-{run}")), &run, IfExists::Refuse);
    made.map_err(|failure| {
        failure.hint(format!("name another folder for temporary files: TMPDIR=PATH cargo xtask {verb}"))
    })
}

/// Tells the outer half, if there is one, what this process ends with.
pub(crate) fn ending(code: ExitCode) {
    if let Some(guarded) = guarded() {
        guarded.ending(code.number());
    }
}

fn isolation(global: &Global, guard: &Guard) -> Result<Isolation, Failure> {
    let wanted = match global.isolation {
        _ if guard.for_others => guard.auto,

        IsolationFlag::Auto => guard.auto,
        IsolationFlag::Guard => Wanted::Guard,
        IsolationFlag::Pidns => Wanted::Pidns,
    };
    decide(wanted, guard.stays)
}

/// The id that everything below is going to carry, written down before anything is started.
fn name_run(environment: &Environment, live: &LiveFile) -> Result<Vec<(String, String)>, Failure> {
    let name = STELAE_RUN_ID::DECLARED.name;
    let given = environment.text(name).map(str::to_owned);
    let run = given.clone().unwrap_or_else(run_id);
    live.write(&Dead { run: run.clone(), workspace: None })?;
    Ok(if given.is_some() { Vec::new() } else { vec![(name.to_owned(), run)] })
}

/// Ends what dead runs have left.
fn sweep(folder: &camino::Utf8Path, printer: &Printer) {
    for done in sweep_dead(folder, SWEEP, &Interrupt::never(), &mut Workspace::clear) {
        talk(printer, format!("note: {done}"));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use stelae_model::env::Layers;

    use super::*;

    #[test]
    fn a_verb_works_in_a_folder_that_nobody_else_looks_into() {
        let temporary = tempfile::tempdir().unwrap();
        let scratch = |name: &str| {
            let folder = temporary.path().join(name).to_str().unwrap().to_owned();
            let process = vec![("TMPDIR".to_owned(), folder)];
            scratch(&Environment::resolve(&Layers { process, ..Layers::default() }).unwrap(), "bench")
        };
        let folder = scratch("").unwrap();
        assert!(folder.path().as_str().contains("/stelae-bench-"), "{folder:?}");
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        folder.remove().unwrap();
        assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
        let failure = scratch("missing").unwrap_err();
        assert!(failure.hint.unwrap().contains("TMPDIR=PATH cargo xtask bench"));
    }
}
