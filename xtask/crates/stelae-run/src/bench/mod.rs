//! What a gateway costs: interleaved rounds in which our gateway, others, and no gateway at all are each started, asked and
//! stopped, and what that comes to.
//!
//! All of them have the same three servers behind them, each of which says who it is and what it was asked. So every answer
//! is looked at, and none counts that came from the wrong one.

mod client;
mod memory;
mod round;
mod speech;
mod target;
mod wire;

use std::time::Duration;

use camino::Utf8PathBuf;
use stelae_model::bench::{Report, Row, Series};
use stelae_model::env::Environment;
use stelae_model::{ExitCode, Failure};

pub use target::{GATEWAYS, Gateway};

use crate::deadline::Deadline;
use crate::signals::Interrupt;

/// The labels of the servers.
const SERVERS: [&str; 3] = ["a", "b", "c"];
/// No gateway at all: each server on pipes of its own.
const STDIO: &str = "stdio directly";
/// One target in one round takes seconds; this is for a machine that does something else meanwhile.
pub const TARGET_LIMIT: Duration = Duration::from_secs(120);

/// The name of a server's tool; no two are the same, so nobody has to rename one.
fn tool(server: &str) -> String {
    format!("echo_{server}")
}

/// What a server answers: who it is, what was called, and with what.
fn right_answer(server: &str, text: &str) -> String {
    format!("{server}:{}:{text}", tool(server))
}

/// What is to be measured.
#[derive(Debug)]
pub struct Bench {
    /// How many rounds.
    pub rounds: usize,
    /// Sequential calls of each target in each round.
    pub calls: usize,
    /// Clients at once.
    pub clients: usize,
    /// Calls of each of them.
    pub calls_each: usize,
    /// Who is measured, and the programs; ours is the first.
    pub gateways: Vec<(&'static Gateway, Utf8PathBuf)>,
    /// The server behind them: `mcp-fixture`.
    pub server: Utf8PathBuf,
    /// A folder of its own, which is removed by whoever made it.
    pub folder: Utf8PathBuf,
}

impl Bench {
    /// Carries all of it out. `progress` is told before each target of each round.
    ///
    /// # Errors
    /// Exit 10, `bench-target`: one could not be started or asked, or answered something else; 34: something of it survived;
    /// 40; 129, 130, 143 when a signal comes. An aim that does not hold is no error here: see [`Report::holds`].
    pub fn carry_out(
        &self,
        environment: &Environment,
        interrupt: &Interrupt,
        progress: &mut dyn FnMut(usize, &str),
    ) -> Result<Report, Failure> {
        std::fs::create_dir_all(&self.folder).map_err(|error| {
            Failure::new(ExitCode::PrerequisiteMissing, "bench-folder", "the bench has no folder to work in")
                .on(self.folder.to_string())
                .because(error.to_string())
                .hint("make room, or name another folder: cargo xtask --set STELAE_CACHE_HOME=PATH bench gateway")
        })?;
        let empty = |target: &str| Series { target: target.to_owned(), rounds: Vec::new() };
        let mut stdio = empty(STDIO);
        let mut others: Vec<Series> = self.gateways.iter().map(|(gateway, _)| empty(gateway.name)).collect();
        for round in 1..=self.rounds {
            let host = round::Host { bench: self, environment, interrupt, round };
            progress(round, STDIO);
            stdio.rounds.push(host.stdio(Deadline::after(TARGET_LIMIT))?);
            for ((gateway, program), series) in self.gateways.iter().zip(&mut others) {
                progress(round, gateway.name);
                series.rounds.push(host.gateway(gateway, program, Deadline::after(TARGET_LIMIT))?);
            }
        }
        Ok(self.report(&stdio, &others))
    }

    fn report(&self, stdio: &Series, others: &[Series]) -> Report {
        let mut rows = vec![Row::of(stdio, stdio)];
        rows.extend(others.iter().map(|series| Row::of(series, stdio)));
        let aims = rows.get(1).map(Row::aims).unwrap_or_default();
        let mut notes = vec![format!("the slowest server by itself is what `listed` says for {STDIO}")];
        if self.gateways.len() < 2 {
            notes.push("no other gateway was measured: name one with --peer NAME=PROGRAM".to_owned());
        }
        Report {
            schema: 1,
            rounds: self.rounds,
            calls: self.calls,
            clients: self.clients,
            calls_each: self.calls_each,
            rows,
            aims,
            notes,
        }
    }
}
