//! Who is measured: how each is started, and where it is spoken to. A new one is one more entry of [`GATEWAYS`].

use std::net::SocketAddr;

use super::client::Client;
use super::speech::{Events, Streamable};
use super::{SERVERS, tool};
use crate::deadline::Deadline;

/// A gateway, by what is peculiar to it.
#[derive(Debug)]
pub struct Gateway {
    /// Its name, also on the command line.
    pub name: &'static str,
    /// Its arguments; `{config}`, `{host}` and `{port}` are put in.
    pub(super) args: &'static [&'static str],
    pub(super) socket: Socket,
    pub(super) endpoint: Endpoint,
}

/// Who opens the listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// We do, and pass it.
    Passed,
    /// It does, on a port that we hold.
    Own,
}

/// Where its tools are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Endpoint {
    /// All of them on one path, over streamable HTTP.
    Streamable(&'static str),
    /// All of them on one path, over the older HTTP with events.
    Events(&'static str),
    /// Those of each server on a path with its name, `{server}`, over streamable HTTP.
    EachStreamable(&'static str),
}

/// Ours comes first.
pub const GATEWAYS: &[Gateway] = &[
    Gateway {
        name: "stelae-gateway",
        args: &["serve", "--config", "{config}"],
        socket: Socket::Passed,
        endpoint: Endpoint::Streamable("/mcp"),
    },
    // From npm. It listens on every interface, and no option says otherwise.
    Gateway {
        name: "mcp-hub",
        args: &["--port", "{port}", "--config", "{config}"],
        socket: Socket::Own,
        endpoint: Endpoint::Events("/mcp"),
    },
    // From PyPI.
    Gateway {
        name: "mcp-proxy",
        args: &["--host", "{host}", "--port", "{port}", "--named-server-config", "{config}"],
        socket: Socket::Own,
        endpoint: Endpoint::EachStreamable("/servers/{server}/mcp"),
    },
];

impl Gateway {
    /// The one with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        GATEWAYS.iter().find(|gateway| gateway.name == name)
    }

    pub(super) fn args(&self, config: &str, address: SocketAddr) -> Vec<String> {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let put_in =
            |arg: &&str| arg.replace("{config}", config).replace("{host}", &host).replace("{port}", &port);
        self.args.iter().map(put_in).collect()
    }

    /// Opens the sessions that one client needs to reach every server.
    pub(super) fn sessions(&self, address: SocketAddr, deadline: Deadline) -> Result<Sessions, String> {
        let clients = match self.endpoint {
            Endpoint::Streamable(path) => {
                vec![Client::begin(Streamable::open(address, path.to_owned(), deadline)?, deadline)?]
            }
            Endpoint::Events(path) => vec![Client::begin(Events::open(address, path, deadline)?, deadline)?],
            Endpoint::EachStreamable(path) => {
                let client = |server: &&str| {
                    let path = path.replace("{server}", server);
                    Client::begin(Streamable::open(address, path, deadline)?, deadline)
                };
                SERVERS.iter().map(client).collect::<Result<_, _>>()?
            }
        };
        Ok(Sessions::of(clients))
    }
}

/// One client's sessions: one for all servers, or one for each.
pub(super) struct Sessions {
    clients: Vec<Client>,
    /// What each server's tool is called, in the order of the servers. Some put the server's name before it.
    tools: Vec<Option<String>>,
}

impl Sessions {
    pub(super) fn of(clients: Vec<Client>) -> Self {
        Self { clients, tools: vec![None; SERVERS.len()] }
    }

    /// Asks for the lists; says whether every server's tool is in them.
    pub(super) fn list(&mut self, deadline: Deadline) -> Result<bool, String> {
        for client in &mut self.clients {
            for name in client.tools(deadline)? {
                let server = SERVERS.iter().position(|server| name.ends_with(&tool(server)));
                if let Some(server) = server {
                    self.tools[server] = Some(name);
                }
            }
        }
        Ok(self.tools.iter().all(Option::is_some))
    }

    /// The names that were found, each of another server.
    pub(super) fn listed(&self) -> Vec<&str> {
        self.tools.iter().filter_map(Option::as_deref).collect()
    }

    /// Calls the tool of one of the servers.
    pub(super) fn call(&mut self, server: usize, text: &str, deadline: Deadline) -> Result<String, String> {
        let tool = self.tools[server].as_deref().ok_or("a server whose tool is not listed")?;
        let last = self.clients.len() - 1;
        self.clients[server.min(last)].call(tool, text, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_what_is_put_in() {
        let address = "127.0.0.1:81".parse().unwrap();
        let args = Gateway::named("mcp-hub").unwrap().args("/c.json", address);
        assert_eq!(args, ["--port", "81", "--config", "/c.json"]);
        let names: std::collections::BTreeSet<_> = GATEWAYS.iter().map(|gateway| gateway.name).collect();
        assert_eq!(names.len(), GATEWAYS.len(), "each name stands for one");
    }
}
