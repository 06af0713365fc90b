//! Installing and removing: lock, read, plan, refuse or stage, exchange.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use stelae_model::bundle::{
    Action, Bundle, Edits, Folder, Plan, ServerPlan, plan_install, plan_remove, server_entry,
};
use stelae_model::render::{Syntax, resolve};
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure, server_name};

use super::commit::{Place, Stage};
use super::lock::Lock;
use super::{io_failure, lock_installed, read_installed, read_locked};
use crate::render::Home;

/// Whether a plan is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Yes.
    Commit,
    /// No: it is only made, and refused if it would be refused (`--dry-run`). Nothing is created, not even a lock.
    DryRun,
}

/// What a person asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The servers that are meant; all of them if none is named.
    pub servers: &'a [String],
    /// What to do with a person's edits.
    pub edits: Edits,
    /// Whether to do it.
    pub apply: Apply,
}

/// What happens, as it happens: for live lines.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The plan, before anything is touched.
    Planned(&'a Plan),
    /// One server was dealt with. Nothing is visible yet.
    Server(&'a ServerPlan),
    /// The new content is visible; what is left is to delete the old one.
    Committed,
}

/// What an install or a removal did; on a dry run, what it would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The plan.
    pub plan: Plan,
    /// Whether anything was touched.
    pub changed: bool,
}

/// Installs a bundle, or some of its servers, into the config home.
///
/// # Errors
/// Exit 22: `unknown-server`, `edited`, `duplicate-server`, `bundles-locked`, `install-failed`, a descriptor with a
/// token that cannot be resolved; exit 20 if a variable it needs has no value. Nothing has changed then.
pub fn install(
    home: &Home,
    bundle: &Bundle,
    request: Request<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Failure> {
    let change = Change::open(home, &bundle.manifest.name, request.apply)?;
    let plan = change.plan_install(home, bundle, request)?;
    change.carry_out(plan, on_event)
}

/// Removes an installed bundle, or some of its servers. Files that are none of ours stay.
///
/// # Errors
/// Exit 22: `not-installed`, `unknown-server`, `edited`, `bundles-locked`, `install-failed`. Nothing has changed then.
pub fn remove(
    home: &Home,
    bundle: &str,
    request: Request<'_>,
    on_event: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, Failure> {
    let change = Change::open(home, bundle, request.apply)?;
    let plan = change.plan_remove(request)?;
    change.carry_out(plan, on_event)
}

/// One change of one bundle, from the moment at which nobody else can make one.
pub(super) struct Change {
    _lock: Option<Lock>,
    dir: Utf8PathBuf,
    bundle: String,
    apply: Apply,
    /// Every installed bundle, as it was then.
    pub(super) installed: BTreeMap<String, Folder>,
}

impl Change {
    pub(super) fn open(home: &Home, bundle: &str, apply: Apply) -> Result<Self, Failure> {
        stelae_model::bundle::check_name("bundle", bundle)
            .map_err(|cause| Failure::new(ExitCode::Bundle, "bad-name", cause))?;
        let (lock, installed) = match apply {
            Apply::DryRun => (None, read_installed(home)?),
            Apply::Commit => (Some(lock_installed(home)?), read_locked(home)?),
        };
        let dir = home.bundles();
        Ok(Self { _lock: lock, dir, bundle: bundle.to_owned(), apply, installed })
    }

    pub(super) fn plan_install(
        &self,
        home: &Home,
        bundle: &Bundle,
        request: Request<'_>,
    ) -> Result<Plan, Failure> {
        let plan = plan_install(bundle, &self.before(), request.servers, request.edits)?;
        plan.refuse_conflicts(self.dir.join(&self.bundle).as_str())?;
        for server in &plan.servers {
            if let Some(file) = bundle.servers.get(&server.server).filter(|_| server.action != Action::Remove)
            {
                self.refuse_second(&server.server)?;
                // A token that cannot be resolved is found now, not when the stack is rendered.
                server_entry(&file.source)
                    .and_then(|entry| resolve(entry, &home.names, Syntax::Angles))
                    .map_err(as_bundle)?;
            }
        }
        Ok(plan)
    }

    pub(super) fn plan_remove(&self, request: Request<'_>) -> Result<Plan, Failure> {
        let plan = plan_remove(&self.bundle, &self.before(), request.servers, request.edits)?;
        plan.refuse_conflicts(self.dir.join(&self.bundle).as_str())?;
        Ok(plan)
    }

    fn before(&self) -> Folder {
        self.installed.get(&self.bundle).cloned().unwrap_or_default()
    }

    /// Server names are unique in the whole stack.
    fn refuse_second(&self, server: &str) -> Result<(), Failure> {
        let others = self.installed.iter().filter(|(bundle, _)| **bundle != self.bundle);
        for (other, folder) in others {
            if let Some(name) = folder.installed().find(|name| server_name::collide(name, server)) {
                let what = format!("server {server:?} is already installed by bundle {other:?}");
                let failure = Failure::new(ExitCode::Bundle, "duplicate-server", what)
                    .on(self.dir.join(other).as_str())
                    .hint(format!("cargo xtask bundle remove {other} --server {}", shell_word(name)));
                return Err(match name == server {
                    true => failure,
                    false => failure.because(server_name::same(name, server)),
                });
            }
        }
        Ok(())
    }

    /// Stages what the plan wants; `None` if there is nothing to do, or it shall not be done.
    pub(super) fn stage(
        &self,
        plan: &Plan,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> Result<Option<Stage>, Failure> {
        on_event(Event::Planned(plan));
        // Servers that are not written have their line too; those that are get it when they are.
        let writes = self.apply == Apply::Commit && plan.changes;
        for server in
            plan.servers.iter().filter(|server| !writes || !plan.after.servers.contains_key(&server.server))
        {
            on_event(Event::Server(server));
        }
        if !writes {
            return Ok(None);
        }
        let mut on_server = |name: &str| {
            if let Some(server) = plan.servers.iter().find(|server| server.server == name) {
                on_event(Event::Server(server));
            }
        };
        let staged = Place::new(&self.dir, &self.bundle).stage(&plan.after, &mut on_server);
        staged.map(Some).map_err(|error| self.failed(&error))
    }

    fn carry_out(self, plan: Plan, on_event: &mut dyn FnMut(Event<'_>)) -> Result<Outcome, Failure> {
        let Some(stage) = self.stage(&plan, on_event)? else { return Ok(Outcome { plan, changed: false }) };
        let committed = stage.commit().map_err(|error| self.failed(&error))?;
        on_event(Event::Committed);
        committed.finish();
        Ok(Outcome { plan, changed: true })
    }

    pub(super) fn failed(&self, error: &std::io::Error) -> Failure {
        let what = format!("bundle {:?} could not be changed", self.bundle);
        io_failure("install-failed", &what, &self.dir.join(&self.bundle), error)
    }
}

/// A descriptor that does not render is a fault of its bundle; a bad variable stays one of the environment.
fn as_bundle(mut failure: Failure) -> Failure {
    if failure.exit_code == ExitCode::Render {
        failure.exit_code = ExitCode::Bundle;
    }
    failure
}
