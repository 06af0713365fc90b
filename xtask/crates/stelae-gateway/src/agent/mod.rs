//! `agent`: the builtin agent. It plays a script of tool calls over MCP, and writes the transcript that Codex would.
//!
//! Like Codex it goes on after a call that failed, and exits with 0: whether the transcript is what was wanted is for its
//! reader to judge.

mod player;
mod script;
mod sessions;
mod transcript;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stelae_model::Failure;
use stelae_model::endpoints::Endpoints;
use stelae_model::server_name;
use tokio::time::Instant;

use crate::token;
use player::Player;
use script::Script;
use transcript::Transcript;

/// Play a script of tool calls against an MCP endpoint; the transcript (Codex's JSON lines) goes to stdout
///
/// STELAE_MCP_TOKEN is shown to the endpoint, if it is set.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// The streamable-HTTP endpoint, as http://127.0.0.1:9090/mcp
    #[arg(long, required_unless_present = "server_url", conflicts_with = "server_url")]
    url: Option<String>,
    /// The endpoint of one server, where each has its own, as files=http://127.0.0.1:9090/files/mcp; may be repeated
    #[arg(long, value_name = "NAME=URL", value_parser = server_url)]
    server_url: Vec<(String, String)>,
    /// The script: {"calls":[{"tool":"…","arguments":{…}}],"message":"done"}
    #[arg(long, value_name = "FILE")]
    script: PathBuf,
    /// The name under which the transcript knows the MCP server
    #[arg(long, value_name = "NAME", default_value = "stelae")]
    server: String,
    /// Limit for the whole run; calls that it leaves no time for are recorded as failed
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    deadline_ms: u64,
}

impl Agent {
    /// Plays the script.
    ///
    /// # Errors
    /// 2 for an unusable script, 20 for an unusable token, 1 for an endpoint that cannot be reached (the transcript says so, too).
    pub(crate) fn run(self) -> Result<(), Failure> {
        let script = Script::read(&self.script)?;
        let token = token::of_this_client()?;

        let transcript = Transcript::to_stdout(&self.server, &script.digest());
        let endpoints =
            Endpoints { url: self.url.unwrap_or_default(), servers: self.server_url.into_iter().collect() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| Failure::unexpected(format!("the runtime cannot start: {error}")))?;
        let played = runtime.block_on(async {
            // Counted from here: `Instant` belongs to the runtime's clock.
            let deadline = Instant::now() + Duration::from_millis(self.deadline_ms);
            Player {
                endpoints: &endpoints,
                token: token.as_ref(),
                limit_ms: self.deadline_ms,
                deadline,
                transcript,
            }
            .play(&script)
            .await
        });
        runtime.shutdown_background();
        played
    }
}

/// `NAME=URL`.
fn server_url(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) => server_name::check(name).map(|()| (name.to_owned(), url.to_owned())),
        None => Err("expected NAME=URL, with the name of a server".to_owned()),
    }
}
