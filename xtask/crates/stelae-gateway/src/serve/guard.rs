//! Who may talk to us: browsers on foreign pages may not (Host and Origin), other users only with the clients' token, and the
//! control route wants a token of its own.

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

use crate::connections::{Refusals, user_of};
use crate::peer_user::PeerUser;

/// The names and origins under which we are known.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: BTreeSet<String>,
    origins: BTreeSet<String>,
    client_token: Option<Secret<BearerToken>>,
    refusals: Arc<Refusals>,
}

impl Guard {
    /// The guard of a gateway that listens on `address`, calls itself `base_url`, and has this token for clients.
    pub(super) fn new(
        address: SocketAddr,
        base_url: &str,
        client_token: Option<Secret<BearerToken>>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let ip = if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() };
        let mut hosts = BTreeSet::from(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        hosts.insert(ip);
        let mut origins: BTreeSet<String> =
            hosts.iter().map(|host| format!("http://{host}:{}", address.port())).collect();
        if let Some(authority) = base_url.parse::<Uri>().ok().and_then(|uri| uri.authority().cloned()) {
            hosts.insert(authority.host().to_ascii_lowercase());
            origins.insert(base_url.trim_end_matches('/').to_ascii_lowercase());
        }
        Self { hosts, origins, client_token, refusals }
    }

    /// Whether a request of `user` may go on to the routes. With a token, its owner lets in whom it was given to.
    fn knows(&self, user: PeerUser, headers: &HeaderMap) -> bool {
        user == PeerUser::Same || self.has_client_token(headers)
    }

    fn has_client_token(&self, headers: &HeaderMap) -> bool {
        self.client_token.as_ref().is_some_and(|token| has_token(headers, token))
    }

    /// What is wrong, if something is.
    ///
    /// A page that rebinds its own name to 127.0.0.1 still sends that name as Host; a page that posts to us directly
    /// sends itself as Origin. Programs that are not browsers send no Origin, and pass. A target that is a whole URL goes
    /// before Host, so it is looked at in the same way.
    fn fault(&self, target: &Uri, headers: &HeaderMap) -> Option<&'static str> {
        if target.authority().is_some_and(|authority| !self.is_ours(authority)) {
            return Some("target");
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(only), None) => only.to_str().ok().and_then(|text| text.parse::<Authority>().ok()),
            _ => None,
        };
        if !host.is_some_and(|host| self.is_ours(&host)) {
            return Some("Host header");
        }
        let known = |origin: &str| self.origins.contains(&origin.to_ascii_lowercase());
        let all_known = headers.get_all(header::ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(known));
        (!all_known).then_some("Origin header")
    }

    /// One of our names, and nobody's in front of it: no client of ours has a user to tell, and who reads `a@b` as the name
    /// of a host is mistaken about one of the two.
    fn is_ours(&self, authority: &Authority) -> bool {
        !authority.as_str().contains('@') && self.hosts.contains(&authority.host().to_ascii_lowercase())
    }
}

/// Answers 403 to a request with a wrong Host, Origin or target, and 401 to one of another user without the clients' token,
/// whatever they ask for.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some(what) = guard.fault(request.uri(), request.headers()) {
        guard.note(&request, format!("wrong {what}"));
        return (StatusCode::FORBIDDEN, format!("forbidden: the {what} is not one of ours\n"))
            .into_response();
    }
    let user = user_of(&request);
    if guard.knows(user, request.headers()) {
        return next.run(request).await;
    }
    guard.note(&request, format!("it is of {user}, with a wrong or missing token"));
    without_token(format!(
        "this connection is of {user}: every route needs the token of the gateway's clients\n"
    ))
}

/// Answers 401 to a request without the clients' token, if there is one.
pub(super) async fn let_in(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if guard.client_token.is_none() || guard.has_client_token(request.headers()) {
        return next.run(request).await;
    }
    guard.note(&request, "wrong or missing token".to_owned());
    without_token("this endpoint needs a token\n".to_owned())
}

fn without_token(why: String) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], why).into_response()
}

impl Guard {
    fn note(&self, request: &Request, why: String) {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        self.refusals.note("refused requests", move || format!("refused {method} {path}: {why}"));
    }
}

/// Whether the request carries `Authorization: Bearer` and the token, once. The name of a scheme has no case.
pub(super) fn has_token(headers: &HeaderMap, token: &Secret<impl AsRef<str>>) -> bool {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return false };
    let Some((scheme, given)) = only.as_bytes().split_at_checked(b"Bearer ".len()) else { return false };
    // Digests are compared: how long that takes says nothing about how much of the token was right.
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && Sha256::digest(given) == Sha256::digest(token.expose().as_ref())
}

#[cfg(test)]
mod tests {
    use stelae_model::value::EnvValue as _;

    use super::*;

    fn guard(port: u16, base_url: &str, token: Option<&str>) -> Guard {
        let token = token.map(|token| Secret::<BearerToken>::parse(token).unwrap());
        Guard::new(([127, 0, 0, 1], port).into(), base_url, token, Refusals::new("test"))
    }

    fn fault(host: &str, origin: Option<&str>) -> Option<&'static str> {
        let guard = guard(9090, "http://stack.test:8080/", None);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        guard.fault(&Uri::from_static("/mcp"), &headers)
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
        for host in ["evil.test", "evil.test:9090", "127.0.0.1.evil.test", "a b", "a@localhost:9090"] {
            assert_eq!(fault(host, None), Some("Host header"), "{host}");
        }
        for origin in ["http://evil.test", "null", "http://localhost:1", "https://localhost:9090"] {
            assert_eq!(fault("localhost:9090", Some(origin)), Some("Origin header"), "{origin}");
        }
        let guard = guard(1, "", None);
        assert_eq!(guard.fault(&Uri::from_static("/mcp"), &HeaderMap::new()), Some("Host header"));
    }

    #[test]
    fn another_user_needs_the_token_and_cannot_have_one_where_there_is_none() {
        let header = |value: &str| HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
        let (right, wrong, none) = (header("Bearer a-token"), header("Bearer b-token"), HeaderMap::new());
        for other in [PeerUser::Other { uid: 7, inode: 7 }, PeerUser::Unknown("why")] {
            let knows = |token: Option<&str>, headers: &HeaderMap| guard(1, "", token).knows(other, headers);
            assert!(knows(Some("a-token"), &right));
            assert!(!knows(Some("a-token"), &wrong) && !knows(Some("a-token"), &none));
            assert!(!knows(None, &right) && !knows(None, &none) && !knows(None, &header("Bearer ")));
        }
        assert!(guard(1, "", Some("a-token")).knows(PeerUser::Same, &none), "the routes ask it themselves");
    }
}
