//! What a session takes hold of before its first record: workspace, address, port, an earlier session's stack. Whatever keeps it
//! from beginning is found here, and has changed nothing yet.

use std::time::Duration;

use camino::Utf8PathBuf;
use stelae_model::env::Environment;
use stelae_model::env::declared::STELAE_CACHE_HOME;
use stelae_model::flow::{OldStack, Past};
use stelae_model::{ExitCode, Failure};

use super::checks::check_until;
use super::engine::file_of;
use super::options::Plan;
use super::planning::Resumption;
use super::sandbox::Sandbox;
use super::stack::{LiveStack, end_leftovers};
use super::state::Restarted;
use super::step_names;
use super::workspace::Workspace;
use crate::files::remove_stale;
use crate::ports::{AddressLease, Placeholder, PortTaken};
use crate::record::RunFolder;
use crate::signals::Interrupt;

/// A session that can begin.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) sandbox: Sandbox,
    pub(super) workspace: Option<Workspace>,
    pub(super) stack: Option<LiveStack>,
    pub(super) lease: Option<AddressLease>,
    pub(super) placeholder: Option<Placeholder>,
    /// So many steps are read back.
    pub(super) read_back: usize,
    /// What to tell when there is somebody to tell it to.
    pub(super) notes: Vec<String>,
}

/// One folder for all runs of a user, whatever they are runs of.
fn leases(host: &Environment) -> Result<Utf8PathBuf, Failure> {
    Ok(host.get::<STELAE_CACHE_HOME>()?.join("leases"))
}

fn taken(taken: &PortTaken) -> Failure {
    taken.failure("PROXY_PORT")
}

/// Takes hold of what a new run needs: an address that no other run has, and a port there that nobody else gets.
pub(super) fn begin_new(plan: &Plan, host: &Environment) -> Result<Begun, Failure> {
    let lease = AddressLease::take(&leases(host)?)?;
    let address = lease.address();
    let placeholder = Placeholder::hold(address, 0).map_err(|error| taken(&error))?;
    let port = placeholder.address().port();
    Ok(Begun {
        sandbox: Sandbox { run: plan.run.clone(), workspace: plan.workspace.clone(), address, port },
        workspace: None,
        stack: None,
        lease: Some(lease),
        placeholder: Some(placeholder),
        read_back: 0,
        notes: Vec::new(),
    })
}

/// Takes hold of an earlier session's workspace first: as long as somebody else has it, the run is theirs.
pub(super) fn begin_resumed(
    plan: &Plan,
    host: &Environment,
    folder: &RunFolder,
    resumption: Resumption,
    interrupt: &Interrupt,
) -> Result<Begun, Failure> {
    let steps = step_names();
    let recorded = steps.iter().take_while(|name| folder.join(&file_of(name)).exists()).count();
    let there = plan.workspace.symlink_metadata().is_ok();
    let workspace = if there || recorded > 0 { Some(Workspace::open(&plan.workspace)?) } else { None };
    let old: Option<Restarted> = folder.read_json(&file_of("restart")).ok();
    let live = old.as_ref().and_then(|old| LiveStack::resume(old, &folder.join("logs/restart.log")));
    let starts_stack = steps.iter().position(|name| name == "restart").unwrap_or(0);
    let past = Past { steps: &steps, recorded, starts_stack, stack_up: live.is_some() };
    let beginning = past.begin(plan.from.as_deref())?;
    check_until(&steps, beginning.read_back, plan.until.as_deref())?;
    let mut notes = Vec::new();
    if beginning.stack_gone {
        notes.push("the stack of the earlier session is gone: going on from restart".to_owned());
    }
    let stack = if beginning.stack == OldStack::Keep { live } else { None };
    if beginning.stack == OldStack::End {
        notes.push("ended the stack of the earlier session".to_owned());
        let reserve = Duration::from_millis(plan.budgets.teardown_reserve_ms);
        all_gone(end_leftovers(&plan.run, reserve, interrupt))?;
    }
    // A stack that is up has both by itself: its processes inherited the lease.
    let (lease, placeholder) = match stack {
        Some(_) => (None, None),
        None => {
            let endpoint = resumption.sandbox.endpoint();
            let lease = AddressLease::retake(&leases(host)?, endpoint.ip())?;
            let held = Placeholder::hold(endpoint.ip(), endpoint.port()).map_err(|error| taken(&error))?;
            (Some(lease), Some(held))
        }
    };
    // What later steps gave belongs to a past that is about to be done again.
    for name in &steps[beginning.read_back..] {
        remove_stale(&folder.join(&file_of(name)))?;
    }
    let read_back = beginning.read_back;
    Ok(Begun { sandbox: resumption.sandbox, workspace, stack, lease, placeholder, read_back, notes })
}

fn all_gone(survivors: Vec<String>) -> Result<(), Failure> {
    if survivors.is_empty() {
        return Ok(());
    }
    let failure =
        Failure::new(ExitCode::Survivor, "survivor", "the stack of the earlier session does not go");
    Err(survivors.into_iter().fold(failure, Failure::on).hint("end it by its pid"))
}
