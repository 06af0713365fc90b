//! The variables. This is the only place that says their names, types, setters and fallbacks.

use super::variable::variables;
use crate::value::{AbsolutePath, Host, HttpUrl, Port, Secret, Text};

variables! {
    /// Port on which the gateway listens.
    PROXY_PORT: Port, Anyone, ["${PUBLIC_PORT}", "9090"];
    /// Older name of `PROXY_PORT`; read only where that one is not set.
    PUBLIC_PORT: Option<Port>, Anyone, [];
    /// Loopback address on which the gateway listens.
    PROXY_HOST: Host, Anyone, ["127.0.0.1"];
    /// URL of the gateway, for clients. Computed, so that it cannot disagree with the port.
    PUBLIC_BASE_URL: HttpUrl, Derived, ["http://${PROXY_HOST}:${PROXY_PORT}"];

    /// Root of the repository that the verbs work on.
    STELAE_ROOT: AbsolutePath, Harness, [];
    /// Where the stack's configuration lives: installed bundles, overlays, the rendered `proxy.json`.
    STELAE_CONFIG_HOME: AbsolutePath, Anyone, ["${XDG_CONFIG_HOME}/stelae", "${HOME}/.config/stelae"];
    /// Where the stack keeps what it may lose: logs, the discovery cache.
    STELAE_STATE_HOME: AbsolutePath, Anyone, ["${XDG_STATE_HOME}/stelae", "${HOME}/.local/state/stelae"];
    /// Where the supervisor keeps its records of running services.
    STELAE_SUPERVISOR_HOME: AbsolutePath, Anyone, ["${STELAE_STATE_HOME}/supervisor"];
    /// Where builds and tools that runs share are kept.
    STELAE_CACHE_HOME: AbsolutePath, Anyone, ["${XDG_CACHE_HOME}/stelae", "${HOME}/.cache/stelae"];
    /// Folder of the built programs (`xtask`, `stelae-gateway`).
    STELAE_BIN_DIR: AbsolutePath, Harness, [];
    /// Folder that the stack's own MCP server shows to agents; nothing outside it is ever read.
    STELAE_WORKSPACE_ROOT: AbsolutePath, Anyone, ["${STELAE_ROOT}"];
    /// Id of the run that started a process. Every process inside of a run's sandbox carries it, so that leftovers can be
    /// found; git, which works outside of it, does not.
    STELAE_RUN_ID: Option<Text>, Harness, [];
    /// Label of a process, as the evidence names it: `gateway`, `server:stelae`.
    STELAE_PROCESS: Option<Text>, Harness, [];
    /// Lets its bearer make the gateway read its configuration again. Made anew for every start of the stack.
    STELAE_CONTROL_TOKEN: Option<Secret<String>>, Harness, [];

    /// Where programs are looked for.
    PATH: Text, Host, ["/usr/local/bin:/usr/bin:/bin"];
    /// The user's home; a sandbox has its own.
    HOME: AbsolutePath, Host, ["/"];
    /// Language of messages.
    LANG: Option<Text>, Host, ["C.UTF-8"];
    /// Overrides every part of the locale.
    LC_ALL: Option<Text>, Host, [];
    /// Where temporary files go.
    TMPDIR: Option<AbsolutePath>, Host, [];
    /// Time zone.
    TZ: Option<Text>, Host, [];
    /// Base of configuration folders.
    XDG_CONFIG_HOME: Option<AbsolutePath>, Host, [];
    /// Base of state folders.
    XDG_STATE_HOME: Option<AbsolutePath>, Host, [];
    /// Base of cache folders.
    XDG_CACHE_HOME: Option<AbsolutePath>, Host, [];
    /// Any text switches colours off.
    NO_COLOR: Option<Text>, Host, [];
    /// Set by continuous integration; limits are more generous under it.
    CI: Option<Text>, Host, [];
    /// Kind of terminal.
    TERM: Option<Text>, Host, [];

    /// Borrowed by builds: cargo's home, with the registry cache.
    CARGO_HOME: AbsolutePath, Host, ["${HOME}/.cargo"];
    /// Borrowed by builds: rustup's home, with the toolchains.
    RUSTUP_HOME: AbsolutePath, Host, ["${HOME}/.rustup"];
    /// Borrowed by builds: the toolchain that rustup chose for this very process.
    RUSTUP_TOOLCHAIN: Option<Text>, Host, [];
    /// Where cargo builds to.
    CARGO_TARGET_DIR: Option<AbsolutePath>, Host, [];
    /// Borrowed by builds: `true` forbids cargo the network.
    CARGO_NET_OFFLINE: Option<Text>, Host, [];
    /// Borrowed by builds: file of the certificates that cargo trusts.
    CARGO_HTTP_CAINFO: Option<Text>, Host, [];
    /// Borrowed by builds: file of the certificates that programs trust.
    SSL_CERT_FILE: Option<Text>, Host, [];
    /// Borrowed by builds: proxy for https. Secret, because its user and password stand in it.
    HTTPS_PROXY: Option<Secret<String>>, Host, [];
    /// Hosts that are reached without a proxy.
    NO_PROXY: Option<Text>, Host, [];
    /// Git never asks a question.
    GIT_TERMINAL_PROMPT: Text, Derived, ["0"];
    /// Git takes no lock that it can do without: a look must not disturb.
    GIT_OPTIONAL_LOCKS: Text, Derived, ["0"];
    /// The only configuration that git reads besides the repository's own; without it, the user's.
    GIT_CONFIG_GLOBAL: Option<AbsolutePath>, Harness, [];
    /// `1`: git does not read the machine's configuration.
    GIT_CONFIG_NOSYSTEM: Option<Text>, Harness, [];
    /// Git index to use in place of the work tree's own.
    GIT_INDEX_FILE: Option<AbsolutePath>, Harness, [];
}
