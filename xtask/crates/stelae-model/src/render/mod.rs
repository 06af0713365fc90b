//! From a template, the installed servers and an overlay to the bytes of `proxy.json`; everything but the files.
//!
//! ```text
//! text -> Source -> Node tree      parsed first, so that a value can neither break nor inject JSON
//!      -> resolve                  <<NAME>> in string leaves, each one expression of minijinja
//!      -> compose                  template + servers of installed bundles + overlay (RFC 7396)
//!      -> finish                   checked against `ProxyConfig`, then deterministic bytes
//! ```
//! Every node remembers where it was written, through all of this: that is what errors point at.

mod compose;
mod diff;
mod expression;
mod finish;
mod json;
mod merge;
mod names;
mod node;
mod resolve;
mod source;
mod token;
mod toml;

pub use compose::{ServerNode, add_servers};
pub use diff::unified_diff;
pub use finish::{Finished, finish};
pub use json::parse_json;
pub use merge::merge_patch;
pub use names::{Names, Syntax};
pub use node::{Key, Node, Tree};
pub use resolve::{resolve, resolve_text_alone};
pub use source::{Place, Source};
pub(crate) use toml::one_line;
pub use toml::parse_toml;
