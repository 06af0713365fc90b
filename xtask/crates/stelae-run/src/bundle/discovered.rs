//! Discovered servers, one by one, for the stack's own MCP server: the bundle and `proxy.json` change together.

use serde::Serialize;
use stelae_model::bundle::{DISCOVERED, Descriptor, Discovery, Edits, Folder, Plan};
use stelae_model::render::Source;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use super::commit::{Committed, Stage};
use super::install::{Apply, Change, Request};
use super::io_failure;
use crate::files::{Pending, create_private_dirs, read_text};
use crate::render::{Home, Written, prepare, render_with, unwritable};

/// What an install or a removal did; on a dry run, what it would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether anything was (on a dry run: would be) touched.
    pub changed: bool,
    /// Whether it was only tried.
    pub dry_run: bool,
    /// Whether `proxy.json` was (would be) another one: then the gateway has to reload.
    pub proxy_changed: bool,
    /// What happened to the server.
    pub plan: Plan,
}

/// Makes the discovery cache from the repository's seed, if there is none. The answer is whether it was made.
///
/// # Errors
/// Exit 22: the seed is missing or not usable, or the cache cannot be written.
pub fn seed_discovery(home: &Home) -> Result<bool, Failure> {
    let path = home.discovery();
    if path.exists() {
        return Ok(false);
    }
    let seed = home.discovery_seed();
    let text = read_text(&seed, ExitCode::Bundle, "discovery", "the seed of the discovery cache")?;
    Discovery::parse(&Source::new(seed.as_str(), text.as_str()))?;
    create_private_dirs(&home.state_home)
        .and_then(|()| Pending::create(&path, text.as_bytes())?.commit())
        .map_err(|error| {
            io_failure("discovery-unwritable", "the discovery cache cannot be written", &path, &error)
        })?;
    Ok(true)
}

/// The discovered servers; those of the seed, as long as there is no cache.
///
/// # Errors
/// Exit 22: the cache cannot be read, or is not usable.
pub fn list_discovered(home: &Home) -> Result<Vec<Descriptor>, Failure> {
    Ok(read_discovery(home)?.servers)
}

fn read_discovery(home: &Home) -> Result<Discovery, Failure> {
    let (cache, seed) = (home.discovery(), home.discovery_seed());
    let path = if cache.exists() || cache.is_symlink() { cache } else { seed };
    let text = read_text(&path, ExitCode::Bundle, "discovery", "the discovery cache")?;
    Discovery::parse(&Source::new(path.as_str(), text))
}

/// Installs a discovered server under the name `target_name` (its own, if there is none), and renders `proxy.json`.
///
/// `force` overwrites a person's edits.
///
/// # Errors
/// As [`super::install`] and [`crate::render::render_proxy`], and `unknown-server` (exit 22). Neither the bundle nor
/// `proxy.json` has changed then.
pub fn install_discovered(
    home: &Home,
    name: &str,
    target_name: Option<&str>,
    dry_run: bool,
    force: bool,
) -> Result<Report, Failure> {
    let target = target_name.unwrap_or(name);
    let bundle = read_discovery(home)?.bundle_of(name, target)?;
    let change = Change::open(home, DISCOVERED, apply(dry_run))?;
    // Named, so that the servers installed before stay.
    let servers = [target.to_owned()];
    let request = Request { servers: &servers, edits: edits(force), apply: apply(dry_run) };
    let plan = change.plan_install(home, &bundle, request)?;
    together(home, &change, plan, dry_run)
}

/// Removes a server that was installed by [`install_discovered`], and renders `proxy.json`.
///
/// `force` removes one that a person edited, too.
///
/// # Errors
/// As [`super::remove`] and [`crate::render::render_proxy`]; `not-installed` (exit 22) for a server that is not, or that
/// belongs to a bundle. Neither the bundle nor `proxy.json` has changed then.
pub fn remove_installed(
    home: &Home,
    target_name: &str,
    dry_run: bool,
    force: bool,
) -> Result<Report, Failure> {
    let change = Change::open(home, DISCOVERED, apply(dry_run))?;
    refuse_absent(&change, target_name)?;
    let servers = [target_name.to_owned()];
    let request = Request { servers: &servers, edits: edits(force), apply: apply(dry_run) };
    let plan = change.plan_remove(request)?;
    together(home, &change, plan, dry_run)
}

/// Whoever wants a server gone thinks of the server, not of the bundle that discovered ones are kept in.
fn refuse_absent(change: &Change, server: &str) -> Result<(), Failure> {
    let holds = |folder: &Folder| folder.installed().any(|name| name == server);
    if change.installed.get(DISCOVERED).is_some_and(holds) {
        return Ok(());
    }
    let absent =
        Failure::new(ExitCode::Bundle, "not-installed", format!("server {server:?} is not installed"));
    let bundle = change.installed.iter().find(|(_, folder)| holds(folder)).map(|(bundle, _)| bundle);
    Err(match bundle {
        Some(bundle) => absent
            .because(format!("it is one of bundle {bundle:?}, and only discovered servers are removed so"))
            .hint(format!("cargo xtask bundle remove {bundle} --server {}", shell_word(server))),
        None => absent.hint("cargo xtask bundle list"),
    })
}

const fn edits(force: bool) -> Edits {
    if force { Edits::Overwrite } else { Edits::Keep }
}

const fn apply(dry_run: bool) -> Apply {
    if dry_run { Apply::DryRun } else { Apply::Commit }
}

/// The bundle and `proxy.json`, both or neither: everything that can fail is done before the first of the two renames,
/// and if the second one fails, the first is taken back.
fn together(home: &Home, change: &Change, plan: Plan, dry_run: bool) -> Result<Report, Failure> {
    let mut installed = change.installed.clone();
    installed.insert(DISCOVERED.to_owned(), plan.after.clone());
    let rendered = render_with(home, &installed)?;
    if dry_run {
        let proxy_changed = !crate::render::diff(&rendered)?.is_empty();
        return Ok(Report { changed: plan.changes || proxy_changed, dry_run, proxy_changed, plan });
    }
    let stage = change.stage(&plan, &mut |_| {})?;
    let (pending, written) = match prepare(&rendered) {
        Ok(prepared) => prepared,
        Err(failure) => {
            // What cannot be removed now is removed by the next change; the failure is what matters.
            stage.map(|stage| stage.discard().ok());
            return Err(failure);
        }
    };
    let committed = stage.map(Stage::commit).transpose().map_err(|error| change.failed(&error))?;
    if let Err(error) = pending.map_or(Ok(()), Pending::commit) {
        let failure = unwritable(&rendered.path, &error);
        return Err(match committed.map_or(Ok(()), Committed::undo) {
            Ok(()) => failure,
            Err(error) => failure.because(format!("and the install could not be taken back: {error}")),
        });
    }
    if let Some(committed) = committed {
        committed.finish();
    }
    let proxy_changed = written != Written::Unchanged;
    Ok(Report { changed: plan.changes || proxy_changed, dry_run, proxy_changed, plan })
}
