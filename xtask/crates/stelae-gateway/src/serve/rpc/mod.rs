//! JSON-RPC with a server, on raw JSON: what the gateway does not understand, it hands on as it came.
//!
//! rmcp's client side is not used here, for reasons that were each seen: its typed results drop fields that they do not
//! know (a tool's `execution`), its notification handlers run in tasks of their own, so that progress can overtake
//! progress, and it writes its own progress token over the client's. A relay needs exactly these three.
//!
//! ```text
//! Peer ── call ──► Pump (stdio, http) ──► server
//!   ▲                                       │
//!   └── Call: events in order, one answer ◄─┘
//! ```

mod call;
mod events;
mod forgotten;
mod http;
mod message;
mod peer;
mod ping;
mod question;
mod stdio;

pub(super) use call::{Call, Heard};
pub(super) use http::over_http;
pub(super) use message::RpcError;
pub(super) use peer::{Asker, Listener, Peer};
pub(super) use question::Question;
pub(super) use stdio::over_stdio;
