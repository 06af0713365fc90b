//! What serves sockets and speaks MCP: one binary, one module per subcommand.
//!
//! | subcommand | is |
//! | --- | --- |
//! | `serve` | the gateway: many MCP servers behind one endpoint |
//! | `server` | the stack's own MCP server, on stdio |
//! | `demo-server` | a small MCP server on stdio that needs nothing, for stages to install and remove |
//! | `agent` | the builtin agent: plays a script of tool calls over MCP and writes a transcript |
//! | `model` | the model of an agent CLI: plays a script of tool calls in the dialects of OpenAI and Anthropic |
//! | `with-model` | runs an agent CLI with that model around it, and without a route to anywhere else |
//! | `held` | becomes an agent once the harness has looked at it; only the harness starts it |
//! | `inside` | the half of `with-model` that the agent CLI runs below; nobody else starts it |
//!
//! Shared are [`client`] (an HTTP client that no proxy variable can capture), [`connections`] (serving HTTP within limits),
//! [`listener`], [`peer_user`] (which user connects), [`stdio`], [`token`] and [`watch`].

mod agent;
mod client;
mod connections;
mod demo;
mod held;
mod listener;
mod model;
mod peer_user;
mod serve;
mod server;
mod stdio;
mod token;
mod watch;
mod with_model;

use std::io::Write;
use std::process;

use clap::{Parser, Subcommand};
use stelae_model::Failure;
use stelae_model::terminal::{Lines, shown_arguments};
use stelae_run::report::show_panics;

/// The MCP gateway of the stack, its own MCP server, a demo server, the builtin agent, and the model of others.
#[derive(Debug, Parser)]
#[command(name = "stelae-gateway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Server(server::Server),
    DemoServer(demo::DemoServer),
    Agent(agent::Agent),
    Model(model::Model),
    WithModel(with_model::WithModel),
    #[command(hide = true)]
    Held(held::Held),
    #[command(hide = true)]
    Inside(with_model::Inside),
}

fn main() {
    show_panics();
    let outcome = match parse().command {
        Command::Serve(verb) => verb.run(),
        Command::Server(verb) => verb.run().map(|()| 0),
        Command::DemoServer(verb) => verb.run().map(|()| 0),
        Command::Agent(verb) => verb.run().map(|()| 0),
        Command::Model(verb) => verb.run().map(|()| 0),
        Command::WithModel(verb) => verb.run(),
        Command::Held(verb) => verb.run(),
        Command::Inside(verb) => verb.run().map(|()| 0),
    };
    process::exit(match outcome {
        Ok(code) => i32::from(code),
        Err(failure) => report(&failure),
    });
}

/// Parses the command line; a wrong one, and a call for help, end here. clap prints arguments as they are: what is invisible in
/// them is an escape when it quotes them.
fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|answer| {
        match Cli::try_parse_from(shown_arguments(std::env::args_os())) {
            Err(visible) if visible.kind() == answer.kind() => visible.exit(),
            _ => {
                let text = answer.to_string();
                let text = Lines::block("", text.strip_prefix("error: ").unwrap_or(&text));
                clap::Error::raw(answer.kind(), text).exit()
            }
        }
    })
}

/// The one place that prints a failure. A closed stderr changes nothing about the exit code.
fn report(failure: &Failure) -> i32 {
    #[expect(
        clippy::disallowed_methods,
        reason = "one of the places that print: a failure shows what is safe"
    )]
    writeln!(std::io::stderr().lock(), "error: {failure}").ok();
    i32::from(failure.exit_code.number())
}
