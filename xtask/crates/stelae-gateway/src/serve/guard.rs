//! Who may talk to us: browsers on foreign pages may not (Host and Origin), and the control route wants a token.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use stelae_model::value::{BearerToken, Secret};

use super::log::event;

/// The names and origins under which we are known.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
}

impl Guard {
    /// The guard of a gateway that listens on `address` and calls itself `base_url`.
    pub(super) fn new(address: SocketAddr, base_url: &str) -> Self {
        let ip = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        let mut hosts = BTreeSet::from(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        hosts.insert(ip);
        let mut origins: BTreeSet<String> =
            hosts.iter().map(|host| format!("http://{host}:{}", address.port())).collect();
        if let Some(authority) = base_url.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned()) {
            hosts.insert(authority.host().to_ascii_lowercase());
            origins.insert(base_url.trim_end_matches('/').to_ascii_lowercase());
        }
        Self { hosts, origins }
    }

    /// The header that is wrong, if one is.
    ///
    /// A page that rebinds its own name to 127.0.0.1 still sends that name as Host; a page that posts to us directly
    /// sends itself as Origin. Programs that are not browsers send no Origin, and pass.
    fn fault(&self, headers: &HeaderMap) -> Option<&'static str> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(only), None) => only.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
            _ => None,
        };
        if !host.is_some_and(|host| self.hosts.contains(&host.host().to_ascii_lowercase())) {
            return Some("Host");
        }
        let known = |origin: &str| self.origins.contains(&origin.to_ascii_lowercase());
        let all_known = headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(known));
        (!all_known).then_some("Origin")
    }
}

/// Answers 403 to a request with a wrong Host or Origin, whatever it asks for.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.fault(request.headers()) {
        None => next.run(request).await,
        Some(name) => {
            event!("refused {} {}: wrong {name} header", request.method(), request.uri().path());
            (StatusCode::FORBIDDEN, format!("forbidden: the {name} header is not one of ours\n"))
                .into_response()
        }
    }
}

/// Answers 401 to a request without the clients' token, if there is one.
pub(super) async fn let_in(
    State(token): State<Option<Arc<Secret<BearerToken>>>>,
    request: Request,
    next: Next,
) -> Response {
    if token.is_none_or(|token| has_token(request.headers(), &token)) {
        return next.run(request).await;
    }
    event!("refused {} {}: wrong or missing token", request.method(), request.uri().path());
    let ask = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, ask, "this endpoint needs a token\n").into_response()
}

/// Whether the request carries `Authorization: Bearer` and the token.
pub(super) fn has_token(headers: &HeaderMap, token: &Secret<impl AsRef<str>>) -> bool {
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    // Digests are compared: how long that takes says nothing about how much of the token was right.
    given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.expose().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(host: &str, origin: Option<&str>) -> Option<&'static str> {
        let guard = Guard::new(([127, 0, 0, 1], 9090).into(), "http://stack.test:8080/");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        guard.fault(&headers)
    }

    #[test]
    fn our_own_names_pass() {
        for host in ["127.0.0.1:9090", "localhost:9090", "LOCALHOST", "[::1]:9090", "stack.test:8080"] {
            assert_eq!(fault(host, None), None, "{host}");
        }
        for origin in ["http://localhost:9090", "http://127.0.0.1:9090", "http://stack.test:8080"] {
            assert_eq!(fault("localhost:9090", Some(origin)), None, "{origin}");
        }
    }

    #[test]
    fn foreign_names_do_not() {
        for host in ["evil.test", "evil.test:9090", "127.0.0.1.evil.test", "a b"] {
            assert_eq!(fault(host, None), Some("Host"), "{host}");
        }
        for origin in ["http://evil.test", "null", "http://localhost:1", "https://localhost:9090"] {
            assert_eq!(fault("localhost:9090", Some(origin)), Some("Origin"), "{origin}");
        }
        assert_eq!(Guard::new(([127, 0, 0, 1], 1).into(), "").fault(&HeaderMap::new()), Some("Host"));
    }
}
