//! One lifecycle, as its guarded process carries it out: take everything that a run takes, start a service that gets away,
//! stop it, give everything back.

use std::net::SocketAddr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::env::programs::SOAK;
use stelae_model::env::{Base, Environment, ProgramEnv as _, SoakEnv};
use stelae_model::lifecycle::StopLimits;
use stelae_model::{ExitCode, Failure};

use super::shape::Shape;
use crate::deadline::Deadline;
use crate::evidence::Evidence;
use crate::files::read_log;
use crate::guardian;
use crate::ports::{self, AddressLease};
use crate::process::{Family, Service, Session, Stdin};
use crate::record::Recorder;
use crate::signals::Interrupt;
use crate::smoke::{IfExists, Workspace};

/// What the service says when everything of it is there.
const UP: &str = "up";
/// No shell takes as long.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// From the first kill until it is given up.
const CEILING: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What one lifecycle is.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Id of the run.
    pub run: String,
    /// How its service gets away.
    pub shape: Shape,
    /// What its processes have in their command lines.
    pub mark: String,
    /// Its workspace, which does not exist yet.
    pub workspace: Utf8PathBuf,
    /// The folder of leases.
    pub leases: Utf8PathBuf,
    /// It listens on this port of its address: two lifecycles on one address would be seen.
    pub port: u16,
    /// Between the polite signal and the kill.
    pub grace: Duration,
    /// How long it is held.
    pub hold: Duration,
}

impl Cycle {
    /// Carries it out.
    ///
    /// # Errors
    /// Whatever fails first; 129, 130, 143 when a signal came; 34, `survivor`.
    pub fn carry_out(&self, environment: &Environment, interrupt: &Interrupt) -> Result<(), Failure> {
        let limits = StopLimits { grace: self.grace, ceiling: CEILING };
        if let Some(guarded) = guardian::guarded() {
            guarded.limit(limits);
            guarded.register(&guardian::Dead::new(&self.run, Some(self.workspace.clone())))?;
        }
        interrupt.bail("the lifecycle")?;
        let workspace = Workspace::create(&self.workspace, &self.run, IfExists::Refuse)?;
        let lease = AddressLease::take(&self.leases)?;
        let family = Family::enter()?;
        let held = self.hold(environment, interrupt, workspace.path(), lease.address());
        let recorder = Recorder::to_listeners(Vec::new());
        let evidence = Evidence::begin(workspace.path().join("evidence"), &recorder);
        let proof = family.stop(limits, interrupt, &mut |present| evidence.keep_snapshot(present, &recorder));
        proof.check()?;
        workspace.remove_or("remove what is left by hand")?;
        if let Some(warning) = recorder.warnings().first() {
            return Err(Failure::unexpected("no snapshot was kept").because(warning));
        }
        held
    }

    fn hold(
        &self,
        environment: &Environment,
        interrupt: &Interrupt,
        folder: &Utf8Path,
        address: std::net::IpAddr,
    ) -> Result<(), Failure> {
        let listener = ports::listen(SocketAddr::new(address, self.port))
            .map_err(|taken| taken.failure("PROXY_PORT"))?;
        let base = Base::from_environment(environment)?;
        let run_id = stelae_model::value::EnvValue::parse(&self.run).map_err(Failure::unexpected)?;
        let env = SoakEnv { run_id: Some(run_id) };
        let invocation = SOAK
            .invoke("/bin/sh".into(), folder.to_owned(), &base, &env)
            .args(["-c".to_owned(), self.shape.script(&self.mark)]);
        let log = folder.join("service.log");
        interrupt.bail("the lifecycle")?;
        let mut service = Service::start(&invocation, &log, Stdin::Listener(listener), Session::Ours)?;

        let deadline = Deadline::after(UP_WITHIN);
        loop {
            // The exit is asked for before the log is read: then the log that is read is complete.
            let ended = service.try_exit();
            if read_log(&log).is_ok_and(|text| text.contains(UP)) {
                break;
            }
            interrupt.bail("the lifecycle")?;
            if let Some(ended) = ended {
                let what = format!("the service ended before it was up: {ended}");
                return Err(Failure::new(ExitCode::ExitedBeforeReady, "exited-before-ready", what)
                    .on(self.shape.name())
                    .log_tail(crate::tail::tail(&log)));
            }
            if deadline.passed() {
                return Err(Failure::new(ExitCode::NotReadyInTime, "not-up", "the service does not come up")
                    .on(self.shape.name())
                    .log_tail(crate::tail::tail(&log)));
            }
            interrupt.wait(LOOK_EVERY);
        }
        let held = Deadline::after(self.hold);
        while !held.passed() {
            interrupt.bail("the lifecycle")?;
            interrupt.wait(held.remaining().min(Duration::from_millis(100)));
        }
        Ok(())
    }
}
