//! Which verbs are guarded, and how: see `stelae_run::guardian`.

use std::env;
use std::time::Duration;

use clap::ValueEnum;
use stelae_model::env::Environment;
use stelae_model::env::Variable as _;
use stelae_model::env::declared::{STELAE_CACHE_HOME, STELAE_RUN_ID};
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure, Isolation};
use stelae_run::environment::OF_RUN;
use stelae_run::files::create_private_dirs;
use stelae_run::guardian::{
    Dead, Document, INNER, LiveFile, Outer, Prints, Wanted, check_private, decide, guarded, sweep_dead,
};
use stelae_run::record::run_id;
use stelae_run::signals::Interrupt;
use stelae_run::smoke::{IfExists, WORKSPACES, Workspace};

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
    /// With `--format json` it prints lines as things happen, and not one document at the end.
    pub(crate) streams: bool,
}

impl Guard {
    /// For a verb that takes everything with it when it ends.
    pub(crate) fn of_everything() -> Self {
        Self {
            follows_stdin: false,
            stays: None,
            auto: Wanted::Auto,
            for_others: false,
            names_run: false,
            streams: false,
        }
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
    let cache_home = environment.get::<STELAE_CACHE_HOME>()?;
    // Before anything in it is believed.
    check_private(&cache_home, ELSEWHERE)?;
    let folder = cache_home.join("live");
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
        .hint(format!("make room, or {ELSEWHERE}"))
    })?;
    let mut args =
        vec![INNER.to_owned(), isolation.to_string(), "--live".to_owned(), live.path().to_string()];
    let mut env = Vec::new();
    if guard.names_run {
        let run = name_run(&environment, &live)?;
        if global.of_run.is_none() {
            args.extend([OF_RUN.to_owned(), run.clone()]);
        }
        // Not to be taken by the other half, but to be found by it.
        env.push((STELAE_RUN_ID::DECLARED.name.to_owned(), run));
    }
    args.extend(env::args().skip(1));
    let handed = Document::default();
    let prints = if printer.is_json() && !guard.streams { Prints::Document } else { Prints::Lines };
    let document = handed.clone();
    let follows_stdin = guard.follows_stdin;
    let outer =
        Outer { program: context.program()?, args, env, isolation, follows_stdin, live, prints, document };
    let stood = outer.stand(interrupt, &|text| printer.talk_beside(text.to_owned()));
    printer.take_over(handed.take());
    // What cannot die uses its workspace still, and the next start looks whether it has gone.
    if stood.as_ref().is_err_and(|failure| failure.exit_code != ExitCode::Survivor) {
        // What the inner half cannot clear any more is cleared now, not by the next start.
        sweep(&folder, printer);
    }
    let stood = stood?;
    for process in &stood.ended {
        printer.talk_beside(format!("note: ended what the verb had left: {process}"));
    }
    // The verb has named what is left itself, if it ended because of that.
    for process in stood.left.iter().filter(|_| stood.code != ExitCode::Survivor.number()) {
        printer.talk_beside(format!("note: the verb has left what cannot be ended: {process}"));
    }
    // Whatever it ended with: what comes out is in the closed list.
    ExitCode::try_from(stood.code).map_err(Failure::unexpected)
}

/// Tells the outer half, if there is one, that this part of the verb is over in so long, whatever happens (a reader of its
/// output may not read, and nothing here gets round to a limit of its own then). The next part says it anew.
pub(crate) fn over_in(limits: Duration) {
    if let Some(guarded) = guarded() {
        guarded.over_in(limits.saturating_add(AND_MORE));
    }
}

/// What to type to have the cache home elsewhere.
const ELSEWHERE: &str = "name another folder: cargo xtask --set STELAE_CACHE_HOME=PATH";
/// What to do with a folder of [`scratch`] that could not be removed: its run has no record to remove it by.
pub(crate) const BY_HAND: &str = "remove what is left by hand";

/// A folder of its own among the workspaces, for the working files of a verb: made by this process, locked and marked, and readable
/// by no other user. Not among the temporary files: what is started in it would find the settings of other users above.
///
/// # Errors
/// Exit 40, `workspace`.
pub(crate) fn scratch(environment: &Environment, verb: &str) -> Result<Workspace, Failure> {
    // The run by which its guardian knows it: the process that removes it later looks for that in the marker.
    let run = environment.text(STELAE_RUN_ID::DECLARED.name).map_or_else(run_id, str::to_owned);
    let folder = environment.get::<STELAE_CACHE_HOME>()?.join(WORKSPACES);
    let path = folder.join(format!("{verb}-{run}"));
    // One that cannot be made is told of by who works in it.
    create_private_dirs(&folder).ok();
    let made = Workspace::create(&path, &run, IfExists::Refuse);
    made.map_err(|failure| failure.hint(format!("{ELSEWHERE} {verb}")))
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
fn name_run(environment: &Environment, live: &LiveFile) -> Result<String, Failure> {
    let given = environment.text(STELAE_RUN_ID::DECLARED.name).map(str::to_owned);
    let run = given.unwrap_or_else(run_id);
    live.write(&Dead::new(&run, None))?;
    Ok(run)
}

/// Ends what dead runs have left.
fn sweep(folder: &camino::Utf8Path, printer: &Printer) {
    // The folder of all workspaces lies beside that of the live files.
    let workspaces = folder.with_file_name(WORKSPACES);
    let clear = &mut |dead: &Dead| Workspace::clear(dead, &workspaces);
    for done in sweep_dead(folder, SWEEP, &Interrupt::never(), clear) {
        printer.talk_beside(format!("note: {done}"));
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
            let process = vec![("STELAE_CACHE_HOME".to_owned(), folder)];
            scratch(&Environment::resolve(&Layers { process, ..Layers::default() }).unwrap(), "bench")
        };
        let folder = scratch("cache").unwrap();
        assert!(folder.path().as_str().contains("/cache/workspaces/bench-"), "{folder:?}");
        assert_eq!(fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
        folder.remove_or(BY_HAND).unwrap();
        assert_eq!(temporary.path().join("cache/workspaces").read_dir().unwrap().count(), 0);
        fs::write(temporary.path().join("file"), "").unwrap();
        let failure = scratch("file").unwrap_err();
        assert!(failure.hint.unwrap().contains("STELAE_CACHE_HOME=PATH bench"));
    }
}
