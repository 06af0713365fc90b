//! All servers together: started from a configuration, changed to another one, stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use stelae_model::proxy::{ProxySection, Readiness, ServerEntry, ServerState};
use stelae_model::server_account::{Happened, ServersAnswer};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::config::{Config, Files};
use super::connect::PING_LIMIT;
use super::life::{Audience, Life, settle_limit};
use super::link::Link;
use super::log::event;
use super::process::END_LIMIT;

/// So long at the most does a reload wait for servers that start: a call that asks for one may go without a word for a
/// minute, unless its server's entry says otherwise.
pub(crate) const SETTLED_WITHIN: Duration = Duration::from_secs(50);

/// The servers behind the gateway.
#[derive(Debug)]
pub(super) struct Fleet {
    files: Files,
    proxy: ProxySection,
    to: Audience,
    closing: CancellationToken,
    lives: Mutex<BTreeMap<String, Life>>,
}

impl Fleet {
    /// Starts all servers of `config` at once, and waits for none of them.
    pub(super) fn start(files: Files, config: Config, to: Audience) -> Self {
        let Config { proxy, overrides } = config;
        let begin = |(name, entry): (String, ServerEntry)| {
            let row = to.board.put(&name, entry.required, 0);
            to.account.note(&name, &entry, Happened::Configured);
            let life = Life::begin(&name, &entry, overrides.servers.get(&name), row, &to);
            (name, life)
        };
        let lives = proxy.mcp_servers.into_iter().map(begin).collect();
        let closing = CancellationToken::new();
        Self { files, proxy: proxy.mcp_proxy, to, closing, lives: Mutex::new(lives) }
    }

    /// Reads the configuration again and makes it true: stops what was removed, restarts what changed, starts what was
    /// added, and begins anew with what is not up. What is up, or still comes up for the first time, is left alone. Waits
    /// until what it started is ready or failed, or for [`SETTLED_WITHIN`]: then readiness says who is still starting.
    ///
    /// It may be asked for from within a call to one of the servers, which stays unanswered until this returns: so
    /// nothing here waits for calls.
    ///
    /// # Errors
    /// Why the new configuration cannot be used; the old one goes on serving.
    pub(super) async fn reload(self: Arc<Self>) -> Result<Readiness, String> {
        // On a task of its own: a client that hangs up drops its request, and must not leave half a reload behind.
        let reload = tokio::spawn(async move { self.become_as_written().await });
        reload.await.unwrap_or_else(|error| Err(format!("the reload broke off: {error}")))
    }

    async fn become_as_written(&self) -> Result<Readiness, String> {
        let mut lives = self.lives.lock().await;
        if self.closing.is_cancelled() {
            return Err("the gateway is shutting down".to_owned());
        }
        // While nobody else reloads: of two at once, the one that acts last has read last.
        let Config { proxy: config, overrides } = self.files.read().map_err(|failure| failure.to_string())?;
        if config.mcp_proxy != self.proxy {
            return Err(
                "`mcpProxy` changed: name and address are fixed until the gateway is restarted".to_owned()
            );
        }
        let wanted = config.mcp_servers;
        let board = &self.to.board;
        let is_same = |name: &str, life: &Life| {
            wanted.get(name) == Some(&life.entry) && overrides.servers.get(name) == life.told.as_ref()
        };
        let is_up = |life: &Life| {
            let state = board.health(&life.row).map(|health| health.state);
            matches!(state, Some(ServerState::Ready | ServerState::Starting))
        };
        let (kept, outdated): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut *lives)
            .into_iter()
            .partition(|(name, life)| is_same(name, life) && is_up(life));
        *lives = kept;
        // What is wanted stands on the board before anything else changes or is waited for: at no moment does readiness
        // miss it, and its names stay its own while it is away.
        let mut fresh = Vec::new();
        for (name, entry) in wanted.iter().filter(|(name, _)| !lives.contains_key(*name)) {
            // That the very same server died before is not to be forgotten by trying it again.
            let again = outdated.get(name).filter(|life| is_same(name, life));
            let restarts =
                again.and_then(|life| board.health(&life.row)).map_or(0, |health| health.restarts + 1);
            fresh.push((name, entry, board.put(name, entry.required, restarts)));
            self.to.account.note(name, entry, Happened::Configured);
        }
        outdated.keys().filter(|name| !wanted.contains_key(*name)).for_each(|name| board.remove(name));
        let stopped = outdated.len();
        let stopping: JoinSet<()> = outdated.into_values().map(Life::stop).collect();
        stopping.join_all().await;
        let limit = wait_limit(fresh.iter().map(|(_, entry, _)| *entry));
        let mut rows = Vec::new();
        for (name, entry, row) in fresh {
            rows.push(row.clone());
            let life = Life::begin(name, entry, overrides.servers.get(name), row, &self.to);
            lives.insert(name.clone(), life);
        }
        event!("reload: {stopped} stopped, {} started, {} in all", rows.len(), lives.len());
        // The wait is outside the lock: neither shutting down nor another reload has to sit through it.
        drop(lives);
        tokio::select! {
            () = board.settled(&rows, limit) => {}
            () = self.closing.cancelled() => {}
        }
        Ok(self.readiness())
    }

    /// The body of `/readyz`.
    pub(super) fn readiness(&self) -> Readiness {
        Readiness { deaths: self.to.account.deaths(), ..self.to.board.readiness() }
    }

    /// Asks each server that is ready for a sign of life, and waits until the account has what is found.
    pub(super) async fn look(&self) -> ServersAnswer {
        let asked: JoinSet<_> = self.to.board.links().into_iter().map(sign_of_life).collect();
        let silent: BTreeMap<_, _> = asked.join_all().await.into_iter().flatten().collect();
        // Of these the account is about to say how they ended.
        self.to.board.away_from_ready(silent.keys(), PING_LIMIT).await;
        self.to.account.settled(END_LIMIT).await;
        let ready = self.to.board.links().into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        let silent = silent.into_iter().filter(|(name, _)| ready.contains(name)).collect();
        ServersAnswer { events: self.to.account.lines(), silent, deaths: self.to.account.deaths() }
    }

    /// Stops all servers, and waits until nothing of them is left.
    pub(super) async fn stop(&self) {
        self.closing.cancel();
        let lives = std::mem::take(&mut *self.lives.lock().await);
        let stopping: JoinSet<()> = lives.into_values().map(Life::stop).collect();
        stopping.join_all().await;
    }
}

/// The name of the server and why it gives no sign of life, if it gives none.
async fn sign_of_life((name, link): (String, Link)) -> Option<(String, String)> {
    // A server that is at work on a call is not asked for longer than that, either: no client waits for one by now.
    let why = match timeout(2 * PING_LIMIT, link.peer.ping(PING_LIMIT)).await {
        Ok(answer) => answer.err()?,
        Err(_) => format!("no answer to ping within {} ms", 2 * PING_LIMIT.as_millis()),
    };
    // Its owner waits for its end, or has to be told to look.
    link.pulse.doubt();
    Some((name, why))
}

/// How long these are waited for.
fn wait_limit<'a>(started: impl Iterator<Item = &'a ServerEntry>) -> Duration {
    started.map(settle_limit).max().unwrap_or_default().min(SETTLED_WITHIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_waits_as_long_as_its_servers_may_take_but_is_answered_in_time() {
        let entry = |ms| ServerEntry { start_timeout_ms: Some(ms), ..ServerEntry::default() };
        let (quick, slow, slowest) = (entry(1_000), entry(20_000), entry(600_000));
        assert_eq!(wait_limit([&quick, &slow].into_iter()), settle_limit(&slow));
        assert_eq!(wait_limit([&slowest, &quick].into_iter()), SETTLED_WITHIN);
        assert_eq!(wait_limit([].into_iter()), Duration::ZERO);
    }
}
