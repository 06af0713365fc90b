//! Reads the environments of live processes, and compares them with what was declared for them.

use std::collections::BTreeMap;
use std::time::Duration;

use stelae_model::env::attest::{Attestation, Declaration, Observed, attest};
use stelae_model::env::programs::{GATEWAY, XTASK};
use stelae_model::env::{Base, Environment, GatewayEnv, ProgramEnv as _, ServerEnv, XtaskEnv};
use stelae_model::proxy::{ProxyConfig, ServerEntry};
use stelae_model::{ExitCode, Failure};

use crate::process::tree::{self, Unreadable};

/// Variables that carry a passed socket; they are for the gateway, and for nobody behind it.
const PASSED_SOCKET: [&str; 2] = ["LISTEN_FDS", "LISTEN_FDS_FIRST_FD"];
/// The token is made by the supervisor when it starts the gateway: nobody outside can know its value.
const TOKEN: &str = "STELAE_CONTROL_TOKEN";

/// What every process of a stack must have, by label: the supervisor, the gateway, each server on stdio.
///
/// # Errors
/// Exit 20, `missing-variable`.
pub fn declarations(
    environment: &Environment,
    proxy: &ProxyConfig,
) -> Result<BTreeMap<String, Declaration>, Failure> {
    let base = Base::from_environment(environment)?;
    let xtask = declare(XTASK.name, &base, &XtaskEnv::from_environment(environment)?, &[]);
    let gateway_env = GatewayEnv::from_environment(environment)?;
    let gateway = declare(GATEWAY.name, &base, &gateway_env, &[PASSED_SOCKET[0], PASSED_SOCKET[1], TOKEN]);
    let mut all = BTreeMap::from([(XTASK.name.to_owned(), xtask), (GATEWAY.name.to_owned(), gateway)]);
    let server_env = ServerEnv { control_token: None, ..ServerEnv::from_environment(environment)? };
    for (name, entry) in proxy.mcp_servers.iter().filter(|(_, entry)| entry.command.is_some()) {
        let label = format!("server:{name}");
        let own = own_names(entry);
        all.insert(label.clone(), declare(&label, &base, &server_env, &own));
    }
    Ok(all)
}

/// Variables of a server's own: those that its entry names, and the token if it may have it.
fn own_names(entry: &ServerEntry) -> Vec<&str> {
    entry.env.keys().map(String::as_str).chain(entry.control.then_some(TOKEN)).collect()
}

fn declare(label: &str, base: &Base, env: &impl stelae_model::env::ProgramEnv, own: &[&str]) -> Declaration {
    let mut declaration = Declaration::of(label, env);
    declaration.must_have.extend(base.pairs().into_iter().map(|(name, text)| (name.to_owned(), text)));
    declaration.may_have.extend(own.iter().map(|&name| name.to_owned()));
    declaration
}

/// Reads the environment of `root` and of everything below it.
///
/// # Errors
/// Exit 20, `environment-unreadable`: a process that we may not look at cannot be attested.
pub fn observe(root: i32) -> Result<Vec<Observed>, Failure> {
    let below = tree::descendants(root).into_iter().filter(|row| !row.zombie).map(|row| row.pid);
    let mut observed = Vec::new();
    for pid in std::iter::once(root).chain(below) {
        match tree::environ(pid) {
            Ok(pairs) => observed.push(Observed {
                pid: u32::try_from(pid).unwrap_or(0),
                command: tree::command_line(pid).unwrap_or_default(),
                environment: pairs.into_iter().collect(),
            }),
            // It ended between two looks.
            Err(Unreadable::Gone) => {}
            Err(why) => {
                return Err(Failure::new(
                    ExitCode::Environment,
                    "environment-unreadable",
                    "the environment of a process cannot be read",
                )
                .on(format!("pid {pid}: {}", tree::command_line(pid).unwrap_or_default()))
                .because(why.to_string()));
            }
        }
    }
    Ok(observed)
}

/// Compares everything below `root` with what was declared.
///
/// A process is seen between `fork` and `exec` with its parent's environment; so a difference counts only when a
/// second look finds it too.
///
/// # Errors
/// What [`declarations`] and [`observe`] find. Differences are no error here: see [`Attestation::verdict`].
pub fn attest_stack(
    environment: &Environment,
    proxy: &ProxyConfig,
    root: i32,
) -> Result<Attestation, Failure> {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
    let declarations = declarations(environment, proxy)?;
    let first = attest(&declarations, &observe(root)?);
    if first.differences.is_empty() {
        return Ok(first);
    }
    std::thread::sleep(BETWEEN_LOOKS);
    Ok(attest(&declarations, &observe(root)?))
}
