//! All servers together: started from a configuration, changed to another one, stopped.

use std::collections::BTreeMap;
use std::sync::Arc;

use stelae_model::proxy::{ProxySection, Readiness, ServerEntry};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{Config, Files};
use super::life::{Audience, Life};
use super::log::event;

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
            let life = Life::begin(&name, &entry, overrides.servers.get(&name), &to);
            (name, life)
        };
        let lives = proxy.mcp_servers.into_iter().map(begin).collect();
        let closing = CancellationToken::new();
        Self { files, proxy: proxy.mcp_proxy, to, closing, lives: Mutex::new(lives) }
    }

    /// Reads the configuration again and makes it true: stops what was removed, restarts what changed, starts what was
    /// added, touches nothing else. Waits until what it started is ready or failed.
    ///
    /// It may be asked for from within a call to one of the servers, which stays unanswered until this returns: so
    /// nothing here waits for calls.
    ///
    /// # Errors
    /// Why the new configuration cannot be used; the old one goes on serving.
    pub(super) async fn reload(self: Arc<Self>) -> Result<Readiness, String> {
        // On a task of its own: a client that hangs up drops its request, and must not leave half a reload behind.
        let reload = tokio::spawn(async move {
            let config = self.files.read().map_err(|failure| failure.to_string())?;
            self.become_like(config).await
        });
        reload.await.unwrap_or_else(|error| Err(format!("the reload broke off: {error}")))
    }

    async fn become_like(&self, Config { proxy: config, overrides }: Config) -> Result<Readiness, String> {
        if config.mcp_proxy != self.proxy {
            return Err(
                "`mcpProxy` changed: name and address are fixed until the gateway is restarted".to_owned()
            );
        }
        let mut lives = self.lives.lock().await;
        if self.closing.is_cancelled() {
            return Err("the gateway is shutting down".to_owned());
        }
        let wanted = config.mcp_servers;
        let (kept, outdated): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut *lives).into_iter().partition(|(name, life)| {
                wanted.get(name) == Some(&life.entry) && overrides.servers.get(name) == life.told.as_ref()
            });
        *lives = kept;
        for name in outdated.keys() {
            self.to.board.remove(name);
        }
        let stopped = outdated.len();
        let stopping: JoinSet<()> = outdated.into_values().map(Life::stop).collect();
        stopping.join_all().await;
        let mut started = Vec::new();
        for (name, entry) in wanted {
            lives.entry(name).or_insert_with_key(|name| {
                started.push(name.clone());
                Life::begin(name, &entry, overrides.servers.get(name), &self.to)
            });
        }
        event!("reload: {stopped} stopped, {} started, {} in all", started.len(), lives.len());
        let fresh: Vec<_> = started.iter().filter_map(|name| lives.get(name)).collect();
        let rows: Vec<_> = fresh.iter().map(|life| life.row.clone()).collect();
        let limit = fresh.iter().map(|life| life.start_limit()).max().unwrap_or_default();
        // The wait is outside the lock: neither shutting down nor another reload has to sit through it.
        drop(lives);
        tokio::select! {
            () = self.to.board.settled(&rows, limit) => {}
            () = self.closing.cancelled() => {}
        }
        Ok(self.to.board.readiness())
    }

    /// Stops all servers, and waits until nothing of them is left.
    pub(super) async fn stop(&self) {
        self.closing.cancel();
        let lives = std::mem::take(&mut *self.lives.lock().await);
        let stopping: JoinSet<()> = lives.into_values().map(Life::stop).collect();
        stopping.join_all().await;
    }
}
