//! `restart`: starts the stack, and says when it is ready.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use stelae_model::endpoints::Endpoints;
use stelae_model::env::programs::XTASK;
use stelae_model::env::{Base, Environment, ProgramEnv as _, XtaskEnv};
use stelae_model::event::Event;
use stelae_model::lifecycle::{StopLimits, TeardownProof};
use stelae_model::stack::BUILTIN;
use stelae_model::terminal::Lines;
use stelae_model::{ExitCode, Failure};
use stelae_run::deadline::Deadline;
use stelae_run::evidence::Evidence;
use stelae_run::files::create_private_dirs;
use stelae_run::guardian::{guarded, isolation};
use stelae_run::process::tree::descendants;
use stelae_run::process::{Family, beside_calls, record_starts};
use stelae_run::record::{Listener, Recorder, run_id};
use stelae_run::report::{Terminal, json_lines};
use stelae_run::signals::Interrupt;
use stelae_run::stack::{
    Attached, Attendance, HoldUntil, KeptPorts, StackChild, StackConfig, StackRecord, check_installed,
    service_log,
};

use crate::context::{Context, absolute};
use crate::gateway::ensure_gateway;
use crate::guard::{Guard, IsolationFlag, over_in};
use crate::verb::Outcome;

/// `restart`
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Stays in the foreground, and takes the stack with it when it ends
    #[arg(long)]
    attached: bool,
    /// Ends the stack also when standard input ends; with --attached
    #[arg(long, value_enum, value_name = "WHAT", requires = "attached")]
    life_line: Option<LifeLine>,
    /// Ends the stack after so many seconds
    #[arg(long, value_name = "SECONDS")]
    lifetime_s: Option<u64>,
    /// Seconds until the stack has to be ready; its own limits apply besides
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    budget_s: Duration,
    /// The gateway's log [default: gateway.log in the supervisor's home]
    #[arg(long, value_name = "PATH")]
    log: Option<Utf8PathBuf>,
    /// Every call of a tool that the gateway is given, a JSON object a line; only the builtin gateway has it
    #[arg(long, value_name = "PATH")]
    calls: Option<Utf8PathBuf>,
    /// Folder for what is seen before the stack is torn down [default: evidence in the supervisor's home]
    #[arg(long, value_name = "PATH")]
    evidence: Option<Utf8PathBuf>,
    /// Description of the stack [default: config/stack.toml]
    #[arg(long, value_name = "PATH")]
    stack: Option<Utf8PathBuf>,
    /// The gateway: `builtin`, or one of the stack's [gateways]
    #[arg(long, value_name = "NAME", default_value = BUILTIN)]
    gateway: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LifeLine {
    /// The end of standard input
    Stdin,
}

/// What an attached restart is started with.
struct Prepared {
    config: StackConfig,
    log: Utf8PathBuf,
    calls: Option<Utf8PathBuf>,
    evidence: Evidence,
}

/// What a restart may take besides its budget, on a machine that builds from cold.
const BUILD_AND_MORE: Duration = Duration::from_secs(21 * 60);

/// What a stack that failed may take to end.
const LET_GO: StopLimits = StopLimits { grace: Duration::from_secs(7), ceiling: Duration::from_secs(5) };
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Restart {
    /// How it is guarded.
    pub(crate) fn guard(&self) -> Guard {
        if self.attached {
            let follows_stdin = self.life_line.is_some();
            Guard { follows_stdin, names_run: true, streams: true, ..Guard::of_everything() }
        } else {
            Guard::but_what_stays("the stack stays up, in the hands of a guardian of its own")
        }
    }

    /// Runs it.
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let interrupt = context.interrupt()?;
        let environment = context.environment()?;
        if self.attached {
            self.attached(context, &environment, &interrupt)
        } else {
            self.detached(context, &environment, &interrupt)
        }
    }

    /// The stack in this process's hands.
    fn attached(&self, context: &Context, environment: &Environment, interrupt: &Interrupt) -> Outcome {
        let until = HoldUntil::default().or_after(self.lifetime_s.map(Duration::from_secs));

        let family = Family::enter()?;
        let listener: Listener = if context.printer.is_json() {
            json_lines()
        } else {
            Terminal::with_colour(context.printer.colour()).listener()
        };
        let recorder = Recorder::to_listeners(vec![listener]);
        recorder.event(Event::RunStarted {
            run: environment.text("STELAE_RUN_ID").unwrap_or_default().to_owned(),
            verb: "restart".to_owned(),
            source: context.root().to_string(),
            isolation: isolation(),
        });
        let ended = self.hold(environment, family, &recorder, interrupt, &until);
        match interrupt.check() {
            // Being told to end is how a held stack ends.
            Some(code) if ended.is_ok() => Ok(code),
            // Whoever reads the events has read the failure there.
            _ if context.printer.is_json() => {
                Ok(ended.err().map_or(ExitCode::Pass, |failure| failure.exit_code))
            }
            _ => ended.map(|()| ExitCode::Pass),
        }
    }

    /// Starts, holds and tears down; the first failure of the three counts, and is said as soon as it is there.
    fn hold(
        &self,
        environment: &Environment,
        family: Family,
        recorder: &Recorder,
        interrupt: &Interrupt,
        until: &HoldUntil,
    ) -> Result<(), Failure> {
        let stack =
            self.prepare(environment, recorder, interrupt).inspect_err(|failure| say(recorder, failure))?;
        let Prepared { config, log, calls, evidence } = stack;
        if let Some(starts) = calls.as_deref().map(beside_calls)
            && let Err(error) = record_starts(&starts)
        {
            recorder.warn(format!("what is started is not recorded: {starts}: {error}"));
        }
        let stack = Attached { environment, config: &config, log, calls, evidence, recorder, interrupt };
        if let Some(guarded) = guarded() {
            guarded.limit(stack.teardown_limits());
        }
        let deadline = Deadline::budget(self.budget_s);
        // Kept until the stack is gone.
        let mut ports = KeptPorts::default();
        let ended = stack.start(deadline, &mut ports).and_then(|mut up| stack.hold(&mut up, until));
        // Said before the teardown, which takes as long as the slowest of the rest: a run that plays on this stack waits for
        // nothing any more.
        let ended = ended.inspect_err(|failure| say(recorder, failure));
        let proof = stack.tear_down(family);
        drop(ports);
        ended.and_then(|()| proof.check().inspect_err(|failure| say(recorder, failure)))
    }

    /// Everything that is found out before the stack is started.
    fn prepare(
        &self,
        environment: &Environment,
        recorder: &Recorder,
        interrupt: &Interrupt,
    ) -> Result<Prepared, Failure> {
        let evidence = self.evidence.as_deref().map_or_else(|| default_evidence(environment), absolute)?;
        let mut evidence = Evidence::begin(evidence, recorder);
        let config = self.config(environment)?;
        if let Some(lifetime) = self.lifetime_s {
            // A build, the start and the end are its besides; one without a lifetime has no end that could be said.
            let end = Duration::from_millis(config.stack.grace_ms());
            over_in(Duration::from_secs(lifetime).saturating_add(self.starts_within()).saturating_add(end));
        }
        let log = self.log.as_deref().map_or_else(|| default_log(environment), absolute)?;
        let calls = self.calls.as_deref().map(absolute).transpose()?;
        evidence.follow("gateway", &log);
        for name in config.stack.services.keys() {
            evidence.follow(&format!("service:{name}"), &service_log(&log, name));
        }
        // The process that holds a life line has built the programs before; this process was given no cargo.
        if self.life_line.is_none() {
            let cargo_log = log.with_file_name("cargo.log");
            ensure_gateway(environment, &config.builtin, &cargo_log, interrupt, recorder)?;
        }
        Ok(Prepared { config, log, calls, evidence })
    }

    /// A build, the wait for another restart, the end of the old stack, and the start of the new one.
    fn starts_within(&self) -> Duration {
        self.budget_s.saturating_mul(2).saturating_add(BUILD_AND_MORE)
    }

    /// What `--stack` and `--gateway` say together.
    fn config(&self, environment: &Environment) -> Result<StackConfig, Failure> {
        let stack = self.stack.as_deref().map(absolute).transpose()?;
        StackConfig::read(environment, stack.as_deref(), &self.gateway)
    }

    /// The stack left up, in the hands of an attached restart of its own session.
    fn detached(&self, context: &Context, environment: &Environment, interrupt: &Interrupt) -> Outcome {
        let record = StackRecord::of(environment)?;
        let recorder = Recorder::to_listeners(if context.printer.is_json() {
            Vec::new()
        } else {
            vec![Terminal::with_colour(context.printer.colour()).listener()]
        });
        over_in(self.starts_within());
        if let Some(guarded) = guarded() {
            guarded.limit(LET_GO);
        }
        let family = Family::enter()?;
        let log = default_log(environment)?.with_file_name("restart.log");
        // A build takes as long as it takes, and the old stack stays up meanwhile.
        let config = self.config(environment)?;
        // The old stack stays up for as long as the new one cannot be.
        check_installed(&config.chosen, environment)?;
        ensure_gateway(environment, &config.builtin, &log.with_file_name("cargo.log"), interrupt, &recorder)?;
        let busy = Deadline::after(self.budget_s);
        let _alone = record.lock(busy, interrupt)?;
        if let Some(old) = record.stop_recorded(interrupt)? {
            recorder.note(format!("ended the stack that was up: {old}"));
        }
        let run = format!("stack-{}", run_id());
        let env = XtaskEnv { run_id: Some(text(&run)?), ..XtaskEnv::from_environment(environment)? };
        let program = context.sources.bin_dir.join("xtask");
        let invocation = XTASK
            .invoke(program, context.root().to_owned(), &Base::from_environment(environment)?, &env)
            .args(self.attached_args(context.sources.env_file.as_deref(), context.isolation)?);
        // The attached restart is the one that says why it is late.
        let deadline = Deadline::after(self.budget_s.saturating_add(Duration::from_secs(10)));
        let started =
            StackChild::start(&invocation, &log, Attendance::MayStay, deadline, interrupt, &recorder);
        let child = match started.and_then(|child| record.write(&run, &child).map(|()| child)) {
            Ok(child) => child,
            Err(failure) => {
                let left = let_go(family, interrupt).left().into_iter();
                return Err(left.fold(failure, |failure, one| failure.because(format!("survived: {one}"))));
            }
        };
        let (endpoints, pid) = (child.endpoints.clone(), child.release());

        drop(family);
        let Endpoints { url, servers } = endpoints;
        let data = serde_json::json!({"schema": 1, "url": url, "servers": servers, "pid": pid, "run": run});
        context.printer.data(&data, || {
            let mut lines = Lines::one(format!("the stack is up: {url} (pid {pid})"));
            lines.extend(servers.iter().map(|(name, url)| format!("  {name}: {url}")));
            lines.push("end it: cargo xtask down");
            lines
        });
        Ok(ExitCode::Pass)
    }

    /// The arguments of the attached restart: what this one was told.
    fn attached_args(
        &self,
        env_file: Option<&Utf8Path>,
        isolation: IsolationFlag,
    ) -> Result<Vec<String>, Failure> {
        let mut args =
            vec!["--format".to_owned(), "json".to_owned(), "restart".to_owned(), "--attached".to_owned()];
        args.extend(["--budget-s".to_owned(), self.budget_s.as_secs_f64().to_string()]);
        args.extend(["--life-line".to_owned(), "stdin".to_owned()]);
        args.extend(["--gateway".to_owned(), self.gateway.clone()]);
        let paths = [
            ("--env-file", env_file),
            ("--log", self.log.as_deref()),
            ("--calls", self.calls.as_deref()),
            ("--evidence", self.evidence.as_deref()),
            ("--stack", self.stack.as_deref()),
        ];
        for (flag, value) in paths {
            if let Some(path) = value {
                args.extend([flag.to_owned(), absolute(path)?.to_string()]);
            }
        }
        // By itself it finds out what is allowed: only what is left here may not live in a namespace.
        if isolation == IsolationFlag::Guard {
            args.extend(["--isolation".to_owned(), "guard".to_owned()]);
        }
        if let Some(seconds) = self.lifetime_s {
            args.extend(["--lifetime-s".to_owned(), seconds.to_string()]);
        }
        Ok(args)
    }
}

/// Ends a stack that is not to stay. Its supervisor has seen the end of its line, and ends everything in its own order, evidence
/// first; a signal from here would be one more, which shortens the grace. What is still there after that has had its chance.
fn let_go(family: Family, interrupt: &Interrupt) -> TeardownProof {
    let by_itself = Deadline::after(LET_GO.grace);
    let anybody = || descendants(std::process::id().cast_signed()).iter().any(|row| !row.zombie);
    family.stop(StopLimits { grace: Duration::ZERO, ..LET_GO }, interrupt, &mut |_| {
        while anybody() && !by_itself.passed() && interrupt.count() < 2 {
            interrupt.wait(LOOK_EVERY);
        }
    })
}

fn say(recorder: &Recorder, failure: &Failure) {
    recorder.event(Event::Failed { step: "restart".to_owned(), failure: failure.clone() });
}

/// A number of seconds, whole or not: `60`, `8.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let in_range = seconds.filter(|seconds| !seconds.is_zero() && seconds.as_secs() <= 24 * 3600);
    in_range.ok_or_else(|| "expected seconds, more than 0 and at most a day".to_owned())
}

fn text(text: &str) -> Result<stelae_model::value::Text, Failure> {
    stelae_model::value::EnvValue::parse(text).map_err(Failure::unexpected)
}

fn default_evidence(environment: &Environment) -> Result<Utf8PathBuf, Failure> {
    Ok(default_log(environment)?.with_file_name("evidence"))
}

fn default_log(environment: &Environment) -> Result<Utf8PathBuf, Failure> {
    let home = environment.get::<stelae_model::env::declared::STELAE_SUPERVISOR_HOME>()?;
    create_private_dirs(home.as_path()).map_err(|error| {
        Failure::new(ExitCode::PrerequisiteMissing, "supervisor-home", "the supervisor's home cannot be made")
            .on(home.to_string())
            .because(error.to_string())
            .hint("name another folder: --set STELAE_SUPERVISOR_HOME=PATH")
    })?;
    Ok(home.join("gateway.log"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;
    use crate::verb::Verb;

    #[test]
    fn what_a_restart_is_told_the_attached_one_is_told_as_well() {
        let told = [
            ("--budget-s", "8.5"),
            ("--gateway", "mine"),
            ("--log", "/l"),
            ("--calls", "/c"),
            ("--evidence", "/e"),
            ("--stack", "/s"),
            ("--lifetime-s", "9"),
            ("--env-file", "/f"),
            ("--isolation", "guard"),
        ];
        let words = told.iter().flat_map(|&(flag, value)| [flag, value]);
        let cli = Cli::try_parse_from(["xtask", "restart"].into_iter().chain(words)).unwrap();
        let Verb::Restart(restart) = cli.verb else { panic!("another verb") };
        let args = restart.attached_args(cli.global.env_file.as_deref(), cli.global.isolation).unwrap();
        for (flag, value) in told {
            assert!(args.windows(2).any(|pair| pair == [flag, value]), "{flag}: {args:?}");
        }
    }
}
