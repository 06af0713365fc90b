//! `model`: a model that does what it is told. It speaks the two dialects that agent CLIs speak, and plays a script of tool
//! calls, one a turn; so a real agent makes real MCP calls without a key, without the internet, the same every time.
//!
//! | route | is |
//! | --- | --- |
//! | `POST /v1/responses` | OpenAI's Responses, streaming: Codex |
//! | `POST /v1/messages` | Anthropic's Messages, streaming: Claude Code |
//! | `GET /__stub/state` | what was asked so far, and what was wrong with it |
//! | anything else | a fault; through a proxy variable that is how an agent's way outside is seen |
//!
//! It has no memory: which turn it is stands in each request, as the number of answers that its calls have had.

mod messages;
mod play;
pub(crate) mod record;
mod responses;
pub(crate) mod script;
pub(crate) mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use camino::Utf8PathBuf;
use clap::Args;
use stelae_model::{ExitCode, Failure};
use tokio::signal::unix::{SignalKind, signal};

use crate::listener;
use record::Record;
use script::Script;

/// Play a script of tool calls as the model of an agent CLI (OpenAI Responses and Anthropic Messages, streaming)
///
/// SIGTERM and SIGINT end it with 0.
#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(flatten)]
    played: Played,
}

/// What is played, and where.
#[derive(Debug, Args)]
pub(crate) struct Played {
    /// Where the model listens; a socket for it may be passed as LISTEN_FDS
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The script: {"server":"stelae","calls":[{"tool":"…","arguments":{…}}],"message":"done"}
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Utf8PathBuf,
    /// Every request, a JSON object a line, with what was answered
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Utf8PathBuf,
}

impl Model {
    /// Serves until a signal comes.
    ///
    /// # Errors
    /// 2 for an unusable script, 33 for a taken port, 20 for an unusable passed socket, or where the kernel does not tell the
    /// users of connections, 40 for a record that cannot be written.
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self { played } = self;
        let script = Script::read(&played.script)?;
        if script.is_dead() {
            let what = "a model that is dead cannot be served";
            return Err(Failure::new(ExitCode::Usage, "dead-model", what)
                .on(played.script.as_str())
                .hint("it is for stelae-gateway with-model"));
        }
        let record = Record::create(&played.record)?;
        // Before the runtime starts its threads: see `listener::open`.
        let listener = listener::open(played.listen)?;
        let rules = server::rules(&listener)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| unexpected(&error))?;
        let served = runtime.block_on(async {
            let (mut terminate, mut interrupt) =
                (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let over = async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            };
            server::serve((listener, rules), script, Arc::new(record), over).await
        });
        runtime.shutdown_background();
        served.map_err(|error| unexpected(&error))
    }
}

fn unexpected(error: &std::io::Error) -> Failure {
    Failure::unexpected(format!("the model cannot serve: {error}"))
}
