//! Reads the environments of live processes, and compares them with what was declared for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use stelae_model::Failure;
use stelae_model::env::attest::{Attestation, Declaration, Difference, JudgedBy, Memory, Observed, attest};
use stelae_model::env::declared::{STELAE_CALLS, STELAE_CONTROL_TOKEN, STELAE_PROCESS};
use stelae_model::env::programs::{GATEWAY, XTASK};
use stelae_model::env::{
    Base, Environment, GatewayEnv, Invocation, ProgramEnv, ServerEnv, ServiceEnv, Variable as _, XtaskEnv,
};
use stelae_model::lifecycle::ProcessRow;
use stelae_model::proxy::ProxyConfig;
use stelae_model::starts::{LiveProcess, Origin, StartRecord, origins};

use crate::ports;
use crate::process;
use crate::process::tree::{self, Unreadable};
use crate::stack::StackConfig;

/// Variables that carry a passed socket; they are for the gateway, and for nobody behind it.
const PASSED_SOCKET: [&str; 2] = ["LISTEN_FDS", "LISTEN_FDS_FIRST_FD"];
/// The token is made by the supervisor when it starts the gateway: nobody outside can know its value.
const TOKEN: &str = STELAE_CONTROL_TOKEN::DECLARED.name;

/// Variables of the services' env files, by the label of the service.
pub type OwnVariables = BTreeMap<String, BTreeMap<String, String>>;

/// Whose the gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayIs {
    /// Ours: it has a token, and hands it to servers that may make it reload.
    Builtin,
    /// Somebody else's: there is no token at all.
    Foreign,
}

/// What every process of a stack must have, by label: the supervisor, the gateway, each service beside it, each server
/// on stdio behind it. `own` has a row for every service. A gateway has no variables of its own: what its env file adds is
/// a leak.
///
/// # Errors
/// Exit 20, `missing-variable`.
pub fn declarations(
    environment: &Environment,
    proxy: &ProxyConfig,
    own: &OwnVariables,
    gateway_is: GatewayIs,
) -> Result<BTreeMap<String, Declaration>, Failure> {
    let base = Base::from_environment(environment)?;
    let xtask = declare(XTASK.name, &base, &XtaskEnv::from_environment(environment)?);
    let has_token = gateway_is == GatewayIs::Builtin;
    let gateway_env = GatewayEnv::from_environment(environment)?;
    let mcp_token = gateway_env.mcp_token.clone().filter(|_| has_token);
    let gateway_env = GatewayEnv { control_token: None, mcp_token, ..gateway_env };
    let mut gateway = declare(GATEWAY.name, &base, &gateway_env);
    gateway.must_be_set.extend(has_token.then(|| TOKEN.to_owned()));
    gateway.may_have.extend(PASSED_SOCKET.map(str::to_owned));
    gateway.may_have.extend(has_token.then(|| STELAE_CALLS::DECLARED.name.to_owned()));
    let mut all = BTreeMap::from([(XTASK.name.to_owned(), xtask), (GATEWAY.name.to_owned(), gateway)]);
    let service_env = ServiceEnv::from_environment(environment)?;
    for (label, own) in own {
        let mut service = declare(label, &base, &service_env);
        service.must_have.extend(undeclared::<ServiceEnv>(own));
        all.insert(label.clone(), service);
    }
    let server_env = ServerEnv { control_token: None, ..ServerEnv::from_environment(environment)? };
    for (name, entry) in proxy.mcp_servers.iter().filter(|(_, entry)| entry.command.is_some()) {
        let label = format!("server:{name}");
        let mut server = declare(&label, &base, &server_env);
        server.must_have.extend(undeclared::<ServerEnv>(&entry.env));
        server.must_be_set.extend((entry.control && has_token).then(|| TOKEN.to_owned()));
        server.may_be_absent = !entry.required;
        all.insert(label, server);
    }
    Ok(all)
}

/// Variables of a process's own, as its entry or its env file says them. One that is declared for every program of its
/// kind is none: it may be set there, and is passed on, but what was declared still holds, and the difference is
/// reported.
fn undeclared<E: ProgramEnv>(own: &BTreeMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let declared = Base::VARIABLES.iter().chain(E::VARIABLES).map(|declared| declared.name);
    let declared: BTreeSet<&str> = declared.collect();
    let own = own.iter().filter(move |(name, _)| !declared.contains(name.as_str()));
    own.map(|(name, text)| (name.clone(), text.clone()))
}

fn declare(label: &str, base: &Base, env: &impl ProgramEnv) -> Declaration {
    let mut declaration = Declaration::of(label, env);
    declaration.must_have.extend(base.pairs().into_iter().map(|(name, text)| (name.to_owned(), text)));
    declaration
}

/// Reads the environment of `root` and of everything below it. `starts` says what was given to which of them.
///
/// A process that has ended between two looks is left out.
pub fn observe(root: i32, starts: &[StartRecord]) -> Vec<Observed> {
    let rows: Vec<ProcessRow> = tree::row(root).into_iter().chain(tree::descendants(root)).collect();
    let live: Vec<LiveProcess> = rows.iter().map(live).collect();
    let all = rows.iter().zip(origins(&live, starts));
    all.filter_map(|(row, origin)| look(row.pid, origin)).collect()
}

fn live(row: &ProcessRow) -> LiveProcess {
    LiveProcess { pid: row.pid, own_pid: tree::own_pid(row.pid), parent: row.parent, started: row.started }
}

/// One process; nothing if it has ended since it was found.
fn look(pid: i32, origin: Origin) -> Option<Observed> {
    let start = match &origin {
        Origin::Recorded(start) => Some(&**start),
        Origin::Descendant(_) | Origin::Unrecorded => None,
    };
    let memory = match tree::environ_bytes(pid) {
        Ok(bytes) => Memory::of(&bytes, start, tree::image(pid).as_deref()),
        Err(Unreadable::Gone) => return None,
        Err(why @ Unreadable::NotMapped) if start.is_some_and(|start| is_image_of(start, pid)) => {
            Memory::Rewritten(why.to_string())
        }
        Err(why) => Memory::Unreadable(unreadable(pid, &why)),
    };
    Some(Observed {
        pid: pid.unsigned_abs(),
        command: tree::command_line(pid).unwrap_or_default(),
        origin,
        memory,
    })
}

fn is_image_of(start: &StartRecord, pid: i32) -> bool {
    start.image.is_some() && tree::image(pid) == start.image
}

/// Why a process may not be read, as far as it can be known from outside.
fn unreadable(pid: i32, why: &Unreadable) -> String {
    let us = rustix::process::geteuid().as_raw();
    match tree::user(pid) {
        Some(user) if user != us => format!("{why}: it runs as user {user}, and the harness as {us}"),
        Some(_) if *why == Unreadable::NotPermitted => {
            format!("{why}: it protects its memory (PR_SET_DUMPABLE), or has rights that the harness has not")
        }
        _ => why.to_string(),
    }
}

/// Compares everything below `root` with what was declared.
///
/// A process is seen between `fork` and `exec` with its parent's environment, and one that was just started may not stand in
/// `starts` yet; so a difference counts only when a second look finds it too.
///
/// # Errors
/// What [`StackConfig::own_variables`], [`declarations`] and `starts` find. Differences are no error here: see
/// [`Attestation::verdict`].
pub fn attest_stack(
    environment: &Environment,
    config: &StackConfig,
    root: i32,
    starts: &(dyn Fn() -> Result<Vec<StartRecord>, Failure> + Sync),
) -> Result<Attestation, Failure> {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
    let own = config.own_variables(environment)?;
    let gateway_is = if config.chosen.reloads() { GatewayIs::Builtin } else { GatewayIs::Foreign };
    let declarations = declarations(environment, &config.proxy, &own, gateway_is)?;
    let addresses = config.addresses(environment)?;
    let judge = || {
        let mut attestation = attest(&declarations, &observe(root, &starts()?));
        let elsewhere = listens_elsewhere(&attestation, &addresses);
        attestation.differences.extend(elsewhere);
        Ok(attestation)
    };
    let first = judge()?;
    if first.differences.is_empty() {
        return Ok(first);
    }
    std::thread::sleep(BETWEEN_LOOKS);
    judge()
}

/// What a process that is judged by its start says of its port is nothing that can be read: so the socket itself is looked at.
fn listens_elsewhere(attestation: &Attestation, addresses: &BTreeMap<String, SocketAddr>) -> Vec<Difference> {
    let by_start = attestation.processes.iter().filter(|process| process.judged_by == JudgedBy::Start);
    let elsewhere = by_start.filter_map(|process| {
        let address = *addresses.get(&process.process)?;
        let owner = ports::owner_of(address);
        if owner.as_ref().is_some_and(|owner| owner.is_below(process.pid.cast_signed())) {
            return None;
        }
        Some(Difference::ListensElsewhere {
            process: process.process.clone(),
            pid: process.pid,
            address: address.to_string(),
            found: owner.map(|owner| owner.describe()),
        })
    });
    elsewhere.collect()
}

/// Compares one process with what its invocation gave it. Nothing if it has ended. What that process starts itself is its
/// own affair.
///
/// A process that has the right label, and was started by us to play, is held until this was done: so its memory is what it
/// was given, for certain.
pub(crate) fn attest_process(
    invocation: &Invocation,
    pid: i32,
    start: Option<&StartRecord>,
) -> Option<Attestation> {
    let origin = start.map_or(Origin::Unrecorded, |start| Origin::Recorded(Box::new(start.clone())));
    let observed = look(pid, origin)?;
    let label = STELAE_PROCESS::DECLARED.name;
    let mut must_have = invocation.environment().clone();
    must_have.insert(label.to_owned(), invocation.process.clone());
    let declared = Declaration { must_have, ..Declaration::default() };
    let declarations = BTreeMap::from([(invocation.process.clone(), declared)]);
    Some(attest(&declarations, &[observed]))
}

/// The start of a process that was held, as a record: what it was given is what its invocation says.
pub(crate) fn start_of(invocation: &Invocation, pid: i32) -> Option<StartRecord> {
    let label = (STELAE_PROCESS::DECLARED.name, invocation.process.as_str());
    let pairs = invocation.environment().iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let start =
        process::started(&invocation.process, invocation.program.as_str(), pid, pairs.chain([label]))?;
    // It is going to execute another program.
    Some(StartRecord { image: None, executed: None, ..start })
}

#[cfg(test)]
mod tests;
