//! The variables. This is the only place that says their names, types, setters and fallbacks.

use super::variable::variables;
use crate::value::{AbsolutePath, BearerToken, Host, HttpUrl, Port, Secret, Text};

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

    /// Where the builtin gateway writes every call that it is given. A variable and no argument: so it comes also to a gateway
    /// that a stack has wrapped in a script.
    STELAE_CALLS: Option<AbsolutePath>, Harness, [];

    /// What clients of the gateway's `/mcp` have to show, if it is set: `Authorization: Bearer TOKEN`. The builtin gateway
    /// asks for it; readiness, checks and agents show it. Arguments are everybody's to read, so it is not settable by `--set`.
    STELAE_MCP_TOKEN: Option<Secret<BearerToken>>, Host, [];

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
    CARGO_TARGET_DIR: Option<AbsolutePath>, Harness, [];
    /// Where cargo keeps what it builds from: the same folder. The user's configuration of cargo may name one that builds of
    /// other work trees share, and then what those built would be taken for what a clone builds.
    CARGO_BUILD_BUILD_DIR: Option<AbsolutePath>, Harness, [];
    /// Borrowed by builds: `true` forbids cargo the network.
    CARGO_NET_OFFLINE: Option<Text>, Host, [];
    /// Borrowed by builds: file of the certificates that cargo trusts.
    CARGO_HTTP_CAINFO: Option<Text>, Host, [];
    /// Borrowed by builds: file of the certificates that programs trust.
    SSL_CERT_FILE: Option<Text>, Host, [];
    /// Borrowed by builds: proxy for https. Secret, because its user and password stand in it.
    HTTPS_PROXY: Option<Secret<String>>, Host, ["${https_proxy}"];
    /// Proxy for plain http. Secret for the same reason.
    HTTP_PROXY: Option<Secret<String>>, Host, ["${http_proxy}"];
    /// Hosts that are reached without a proxy.
    NO_PROXY: Option<Text>, Host, ["${no_proxy}"];
    /// The way in which many write `HTTPS_PROXY`; read only where that one is not set.
    https_proxy: Option<Secret<String>>, Host, [];
    /// The same for `HTTP_PROXY`.
    http_proxy: Option<Secret<String>>, Host, [];
    /// The same for `NO_PROXY`.
    no_proxy: Option<Text>, Host, [];
    /// Borrowed by installs: folder of the certificates that programs trust.
    SSL_CERT_DIR: Option<Text>, Host, [];
    /// Borrowed by installs: file of the certificates that Python's requests trusts.
    REQUESTS_CA_BUNDLE: Option<Text>, Host, [];
    /// Borrowed by installs: file of more certificates that Node trusts.
    NODE_EXTRA_CA_CERTS: Option<Text>, Host, [];
    /// Borrowed by installs: file of users and passwords, for pip and go.
    NETRC: Option<Text>, Host, [];

    /// npm's registry. Secret, as for every address of a registry: a user and a password may stand in it.
    NPM_CONFIG_REGISTRY: Option<Secret<String>>, Host, ["${npm_config_registry}"];
    /// The way in which npm itself writes it.
    npm_config_registry: Option<Secret<String>>, Host, [];
    /// The user's npm configuration, where it is not `~/.npmrc`.
    NPM_CONFIG_USERCONFIG: Option<Text>, Host, [];
    /// The machine's npm configuration.
    NPM_CONFIG_GLOBALCONFIG: Option<Text>, Host, [];
    /// File of the certificates that npm trusts.
    NPM_CONFIG_CAFILE: Option<Text>, Host, [];
    /// What an `.npmrc` refers to for its registry's token.
    NPM_TOKEN: Option<Secret<String>>, Host, [];
    /// The same, under the other usual name.
    NODE_AUTH_TOKEN: Option<Secret<String>>, Host, [];
    /// Where npm keeps what it downloads: a folder of the tools' own.
    NPM_CONFIG_CACHE: Option<Text>, Harness, [];
    /// npm does not look for a newer npm.
    NPM_CONFIG_UPDATE_NOTIFIER: Text, Fixed, ["false"];

    /// pip's index.
    PIP_INDEX_URL: Option<Secret<String>>, Host, [];
    /// More indexes for pip.
    PIP_EXTRA_INDEX_URL: Option<Secret<String>>, Host, [];
    /// Where else pip finds packages.
    PIP_FIND_LINKS: Option<Secret<String>>, Host, [];
    /// `1`: pip asks no index.
    PIP_NO_INDEX: Option<Text>, Host, [];
    /// Hosts that pip trusts without a certificate.
    PIP_TRUSTED_HOST: Option<Text>, Host, [];
    /// File of the certificates that pip trusts.
    PIP_CERT: Option<Text>, Host, [];
    /// File of the certificate that pip shows.
    PIP_CLIENT_CERT: Option<Text>, Host, [];
    /// pip's configuration, besides the user's and the machine's.
    PIP_CONFIG_FILE: Option<Text>, Host, [];
    /// Seconds for which pip waits for an index.
    PIP_DEFAULT_TIMEOUT: Option<Text>, Host, [];
    /// Where pip keeps what it downloads: a folder of the tools' own.
    PIP_CACHE_DIR: Option<Text>, Harness, [];
    /// pip does not look for a newer pip.
    PIP_DISABLE_PIP_VERSION_CHECK: Text, Fixed, ["1"];
    /// pip never asks a question.
    PIP_NO_INPUT: Text, Fixed, ["1"];

    /// Where go gets modules from.
    GOPROXY: Option<Secret<String>>, Host, [];
    /// Who go asks whether a module is what everybody gets.
    GOSUMDB: Option<Text>, Host, [];
    /// Modules about which go asks nobody.
    GONOSUMDB: Option<Text>, Host, [];
    /// Modules that are got from where they are, and about which go asks nobody.
    GOPRIVATE: Option<Text>, Host, [];
    /// Modules that are got from where they are.
    GONOPROXY: Option<Text>, Host, [];
    /// Modules that may be got without a certificate.
    GOINSECURE: Option<Text>, Host, [];
    /// Flags for every go command.
    GOFLAGS: Option<Text>, Host, [];
    /// Whether go may get a newer go.
    GOTOOLCHAIN: Option<Text>, Host, [];
    /// go's own settings. Named, because go otherwise looks for them where it also keeps its counters.
    GOENV: Option<Text>, Host, ["${XDG_CONFIG_HOME}/go/env", "${HOME}/.config/go/env"];
    /// Where go keeps modules and builds: folders of the tools' own.
    GOPATH: Option<Text>, Harness, [];
    /// Where go keeps modules.
    GOMODCACHE: Option<Text>, Harness, [];
    /// Where go keeps what it has compiled.
    GOCACHE: Option<Text>, Harness, [];
    /// Where go keeps temporary files: a folder of the installation.
    GOTMPDIR: Option<Text>, Harness, [];
    /// Where go puts programs.
    GOBIN: Option<Text>, Harness, [];
    /// go needs no C compiler.
    CGO_ENABLED: Text, Fixed, ["0"];

    /// Codex's home, where its user's credentials are looked for. A stage has one of its own.
    CODEX_HOME: AbsolutePath, Host, ["${HOME}/.codex"];
    /// Claude Code's home, where its user's credentials are looked for. A stage has one of its own.
    CLAUDE_CONFIG_DIR: AbsolutePath, Host, ["${HOME}/.claude"];
    /// The model that Claude Code asks, where it is ours.
    ANTHROPIC_BASE_URL: Option<HttpUrl>, Harness, [];
    /// Claude Code asks nobody without a key. Ours wants none: this one opens nothing.
    ANTHROPIC_API_KEY: Option<Secret<String>>, Harness, [];
    /// Claude Code reports nothing, and looks for nothing newer.
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: Text, Fixed, ["1"];
    /// Claude Code does not ask again where its model has refused to answer.
    CLAUDE_CODE_MAX_RETRIES: Text, Fixed, ["0"];
    /// Nor in another way where an answer broke off.
    CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK: Text, Fixed, ["1"];
    /// Claude Code tells its model of every tool, and not of a way to look for them.
    ENABLE_TOOL_SEARCH: Text, Fixed, ["false"];

    /// Git never asks a question.
    GIT_TERMINAL_PROMPT: Text, Fixed, ["0"];
    /// Git takes no lock that it can do without: a look must not disturb.
    GIT_OPTIONAL_LOCKS: Text, Fixed, ["0"];
    /// Git fetches no object from anywhere that a partial clone lacks: a look neither uses the network nor writes.
    GIT_NO_LAZY_FETCH: Text, Fixed, ["1"];
    /// The only configuration that git reads besides the repository's own; without it, the user's.
    GIT_CONFIG_GLOBAL: Option<AbsolutePath>, Harness, [];
    /// `1`: git does not read the machine's configuration.
    GIT_CONFIG_NOSYSTEM: Option<Text>, Harness, [];
    /// Git looks for a repository in no folder above this one: a clone without `.git` is none, and not a part of a repository of the
    /// user's further up.
    GIT_CEILING_DIRECTORIES: Option<AbsolutePath>, Harness, [];
    /// Git index to use in place of the work tree's own.
    GIT_INDEX_FILE: Option<AbsolutePath>, Harness, [];
}
