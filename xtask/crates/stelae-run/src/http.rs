//! Plain HTTP to a service of ours: loopback only, no proxy, no redirects, and never longer than its deadline.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};

use crate::deadline::Deadline;

/// The most that is read of an answer.
pub(crate) const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// A client. Cheap to clone; every exchange uses a connection of its own, because one that was kept may belong to a
/// service that has been restarted since.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, of at most 16 MiB.
    pub body: String,
}

impl Answer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why there is no answer: one short sentence, such as `connection refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer(pub String);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoAnswer {}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    /// A client that ignores `HTTP_PROXY` and its kin: a proxy between us and loopback is never meant.
    pub fn new() -> Self {
        let config = Agent::config_builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .max_idle_connections(0)
            .build();
        Self { agent: Agent::with_parts(config, DefaultConnector::default(), Loopback) }
    }

    /// `GET url`.
    ///
    /// # Errors
    /// [`NoAnswer`]: nobody listens, the deadline passed, or what came is not HTTP.
    pub fn get(&self, url: &str, deadline: Deadline) -> Result<Answer, NoAnswer> {
        let request = self.agent.get(url).config().timeout_global(Some(limit(deadline)?)).build();
        let mut response = request.call().map_err(|error| no_answer(&error))?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: read_all(response.body_mut())? })
    }

    /// `POST url` with a JSON body; the answer's body is for the caller to read, within the same deadline.
    pub(crate) fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        json: &str,
        deadline: Deadline,
    ) -> Result<ureq::http::Response<Body>, NoAnswer> {
        let mut request = self.agent.post(url).config().timeout_global(Some(limit(deadline)?)).build();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.header("Content-Type", "application/json").send(json).map_err(|error| no_answer(&error))
    }

    /// `DELETE url`; says the status.
    pub(crate) fn delete(
        &self,
        url: &str,
        headers: &[(String, String)],
        deadline: Deadline,
    ) -> Result<u16, NoAnswer> {
        let mut request = self.agent.delete(url).config().timeout_global(Some(limit(deadline)?)).build();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.call().map(|response| response.status().as_u16()).map_err(|error| no_answer(&error))
    }
}

/// One header as text.
pub(crate) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The whole body.
pub(crate) fn read_all(body: &mut Body) -> Result<String, NoAnswer> {
    let mut bytes = Vec::new();
    body.as_reader().take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| NoAnswer(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn limit(deadline: Deadline) -> Result<Duration, NoAnswer> {
    // ureq takes a zero for "no limit at all".
    let remaining = deadline.remaining();
    if remaining.is_zero() { Err(NoAnswer("no time left to ask".to_owned())) } else { Ok(remaining) }
}

fn no_answer(error: &ureq::Error) -> NoAnswer {
    NoAnswer(match error {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::UnexpectedEof => "connection closed without an answer".to_owned(),
            _ => error.to_string(),
        },
        other => other.to_string(),
    })
}

/// Resolves IP addresses and `localhost` on loopback, and nothing else: no name server is asked, and, unlike the
/// default, no thread is started for it.
#[derive(Debug)]
struct Loopback;

impl Resolver for Loopback {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let address = loopback_address(uri).ok_or(ureq::Error::HostNotFound)?;
        let mut addresses = self.empty();
        addresses.push(address);
        Ok(addresses)
    }
}

fn loopback_address(uri: &Uri) -> Option<SocketAddr> {
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let ip: IpAddr = if host == "localhost" { [127, 0, 0, 1].into() } else { host.parse().ok()? };
    ip.is_loopback().then(|| SocketAddr::new(ip, uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_ever_asked() {
        let address = |uri: &str| loopback_address(&uri.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(address("http://127.0.0.9:81/x").as_deref(), Some("127.0.0.9:81"));
        assert_eq!(address("http://localhost/").as_deref(), Some("127.0.0.1:80"));
        assert_eq!(address("http://[::1]:9/").as_deref(), Some("[::1]:9"));
        assert_eq!(address("http://192.0.2.1/"), None);
        assert_eq!(address("http://example.com/"), None);
    }

    #[test]
    fn a_passed_deadline_asks_nobody_and_a_dead_port_refuses() {
        let http = Http::new();
        let passed = http.get("http://127.0.0.1:1/", Deadline::after(Duration::ZERO)).unwrap_err();
        assert_eq!(passed.to_string(), "no time left to ask");
        let held = crate::ports::Placeholder::hold([127, 0, 0, 1].into(), 0).unwrap();
        let refused =
            http.get(&format!("http://{}/", held.address()), Deadline::after(Duration::from_secs(5)));
        assert_eq!(refused.unwrap_err().to_string(), "connection refused");
    }

    #[test]
    fn a_server_that_accepts_and_is_silent_costs_the_deadline_only() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let nothing = Http::new().get(&url, Deadline::after(Duration::from_millis(50)));
        assert_eq!(nothing.unwrap_err().to_string(), "no answer in time");
    }
}
