//! A foreign gateway: its program, and the configuration that is rendered for it.

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::dialect::Environments;
use stelae_model::env::declared::{STELAE_CACHE_HOME, STELAE_MCP_TOKEN, STELAE_STATE_HOME};
use stelae_model::env::programs::SERVER;
use stelae_model::env::{Base, Environment, ProgramEnv as _, ServerEnv};
use stelae_model::proxy::ProxyConfig;
use stelae_model::render::Names;
use stelae_model::stack::Chosen;
use stelae_model::{ExitCode, Failure};

use crate::files::{self, Readable};
use crate::programs::is_executable;
use crate::tools::Shelf;

/// How a description begins the path of an installed tool.
const TOOLS_TOKEN: &str = "<<TOOLS>>";

/// Where tools are installed, by all clones and runs of a user.
fn tools(environment: &Environment) -> Result<Utf8PathBuf, Failure> {
    Ok(environment.get::<STELAE_CACHE_HOME>()?.join("tools"))
}

/// The names that the description of a foreign gateway knows besides the variables.
pub(super) fn names(environment: &Environment, chosen: &Chosen) -> Result<Names, Failure> {
    Ok(Names::from(environment)
        .with("TOOLS", tools(environment)?)
        .with("GATEWAY_CONFIG", config_path(environment, chosen)?))
}

/// Where its configuration is: `<STELAE_STATE_HOME>/gateways/<name>/proxy.json`.
fn config_path(environment: &Environment, chosen: &Chosen) -> Result<Utf8PathBuf, Failure> {
    Ok(environment.get::<STELAE_STATE_HOME>()?.join("gateways").join(&chosen.name).join("proxy.json"))
}

/// That the tool of a foreign gateway is installed, as far as that can be said before there is a sandbox to start it in.
///
/// # Errors
/// Exit 40, `gateway-missing`, with the command that installs it.
pub fn check_installed(chosen: &Chosen, host: &Environment) -> Result<(), Failure> {
    let Some((before, rest)) = chosen.gateway.command.split_once(TOOLS_TOKEN) else { return Ok(()) };
    if !before.is_empty() || chosen.tool.is_none() {
        return Ok(());
    }
    check_is_there(chosen, &Utf8PathBuf::from(format!("{}{rest}", tools(host)?)))
}

/// That its program is there, and is what was installed, if it is a pinned tool.
///
/// # Errors
/// Exit 40, `gateway-missing`, `tool-changed`, with the command that installs it.
pub(super) fn check_program(
    chosen: &Chosen,
    program: &Utf8Path,
    environment: &Environment,
) -> Result<(), Failure> {
    check_is_there(chosen, program)?;
    check_content(chosen, program, environment)
}

fn check_is_there(chosen: &Chosen, program: &Utf8Path) -> Result<(), Failure> {
    if is_executable(program) {
        return Ok(());
    }
    let what = format!("the gateway {} is not installed", chosen.name);
    let why = if program.exists() { "it is not an executable file" } else { "there is no such file" };
    let failure = Failure::new(ExitCode::PrerequisiteMissing, "gateway-missing", what)
        .on(program.as_str())
        .because(why);
    Err(match &chosen.tool {
        Some(tool) => failure.hint(format!("cargo xtask tools install {tool}")),
        None => failure.hint(format!("change gateways.{}.command in config/stack.toml", chosen.name)),
    })
}

/// That the tool which a program is a part of is what was installed. What is not among the pinned tools of the root, or
/// lies elsewhere, is the program that the stack names, whatever its content is.
fn check_content(chosen: &Chosen, program: &Utf8Path, environment: &Environment) -> Result<(), Failure> {
    let Some(tool) = &chosen.tool else { return Ok(()) };
    let shelf = match Shelf::open(environment) {
        Ok(shelf) => shelf,
        // A root that pins nothing.
        Err(failure) if failure.kind == "tools-config-missing" => return Ok(()),
        Err(failure) => return Err(failure),
    };
    match shelf.stand(tool) {
        Ok(standing) if program.starts_with(&standing.folder) => shelf.program(tool).map(drop),
        _ => Ok(()),
    }
}

/// Writes what it reads in place of `proxy.json`, for its owner only. Gives what it will not do of what that says.
///
/// # Errors
/// Exit 21: `dialect-lacks`, `output-unwritable`; 20, `missing-variable`.
pub(super) fn write_config(
    chosen: &Chosen,
    proxy: &ProxyConfig,
    environment: &Environment,
) -> Result<Vec<String>, Failure> {
    let Some(dialect) = chosen.dialect else { return Ok(Vec::new()) };
    let spoken = dialect.render(proxy, &environments(proxy, environment)?)?;
    let path = config_path(environment, chosen)?;
    let folder = path.parent().unwrap_or(&path);
    let written = files::create_private_dirs(folder)
        .and_then(|()| files::replace(&path, spoken.text.as_bytes(), Readable::ByOwner));
    written.map_err(|error| crate::render::unwritable(&path, &error))?;
    let mut lacks = spoken.lacks;
    if environment.get::<STELAE_MCP_TOKEN>()?.is_some() {
        lacks.push(format!(
            "the gateway {} does not ask for STELAE_MCP_TOKEN: anybody here may call it",
            chosen.name
        ));
    }
    Ok(lacks)
}

/// What the builtin gateway gives each server: the base, the declared variables, its label and its own. There is no token:
/// a foreign gateway would not know what to do with one.
fn environments(proxy: &ProxyConfig, environment: &Environment) -> Result<Environments, Failure> {
    let base = Base::from_environment(environment)?;
    let env = ServerEnv { control_token: None, ..ServerEnv::from_environment(environment)? };
    let all = proxy.mcp_servers.iter().map(|(name, entry)| {
        let nowhere = Utf8PathBuf::new;
        let invocation = SERVER.invoke_named(name, nowhere(), nowhere(), &base, &env);
        (name.clone(), invocation.own_variables(entry.env.clone()).environment().clone())
    });
    Ok(all.collect())
}
