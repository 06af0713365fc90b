//! An MCP server that has everything: what the official conformance suite (npm `@modelcontextprotocol/conformance`,
//! 0.1.13) asks a server for, by its exact names, and tools of our own (`relay_…`) that show what becomes of messages
//! on their way through a gateway.
//!
//! `mcp-everything` serves on stdin and stdout; `mcp-everything --http ADDRESS` over streamable HTTP on loopback, and its
//! first line on stdout is the address it listens on. Both end with stdin.
//!
//! It is written on raw JSON, without an SDK: no type may drop a field that nobody knows, notifications leave in the order
//! in which they were made, and it shares no mistake with the gateway that it is to test.

#![expect(clippy::print_stderr, reason = "what a server says on stderr is part of what is tested")]

mod catalog;
mod content;
mod http;
mod methods;
mod prompts;
mod relay;
mod resources;
mod session;
mod stdio;
mod tools;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{env, process, thread};

use session::Server;

/// Longer than any test, and the end of every fixture, whatever went wrong around it.
const LIFETIME: Duration = Duration::from_secs(600);

fn main() {
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        process::exit(99);
    });
    let arguments: Vec<String> = env::args().skip(1).collect();
    let address = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--http", address] => Some(loopback(address)),
        _ => usage("usage: mcp-everything [--http ADDRESS]"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = Arc::new(Server::default());
    runtime.block_on(async {
        match address {
            None => stdio::serve(server).await,
            Some(address) => http::serve(address, server).await,
        }
    });
    // The thread that reads stdin cannot be called back.
    process::exit(0);
}

fn loopback(address: &str) -> SocketAddr {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => address,
        _ => usage(&format!("not an address on loopback, such as 127.0.0.1:0: {address:?}")),
    }
}

fn usage(what: &str) -> ! {
    eprintln!("{what}");
    process::exit(2)
}
