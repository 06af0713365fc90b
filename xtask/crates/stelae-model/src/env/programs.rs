//! The programs of the stack and of the harness, and what each of them reads.

use super::program::{Program, ProgramEnv, program_environment};
use super::{Declared, declared::REGISTRY};

program_environment! {
    /// The short base that every process gets; everything else is declared per program.
    Base { path: PATH, home: HOME, lang: LANG, lc_all: LC_ALL, tmpdir: TMPDIR, tz: TZ }
}

program_environment! {
    /// The gateway: what it reads, and what it hands to its servers.
    GatewayEnv {
        root: STELAE_ROOT,
        config_home: STELAE_CONFIG_HOME,
        state_home: STELAE_STATE_HOME,
        bin_dir: STELAE_BIN_DIR,
        workspace_root: STELAE_WORKSPACE_ROOT,
        run_id: STELAE_RUN_ID,
        proxy_host: PROXY_HOST,
        proxy_port: PROXY_PORT,
        public_base_url: PUBLIC_BASE_URL,
        control_token: STELAE_CONTROL_TOKEN,
        mcp_token: STELAE_MCP_TOKEN,
        calls: STELAE_CALLS,
    }
}

program_environment! {
    /// A server behind the gateway. `control_token` is set only for one that may make the gateway reload.
    ServerEnv {
        root: STELAE_ROOT,
        config_home: STELAE_CONFIG_HOME,
        state_home: STELAE_STATE_HOME,
        bin_dir: STELAE_BIN_DIR,
        workspace_root: STELAE_WORKSPACE_ROOT,
        run_id: STELAE_RUN_ID,
        proxy_host: PROXY_HOST,
        proxy_port: PROXY_PORT,
        public_base_url: PUBLIC_BASE_URL,
        control_token: STELAE_CONTROL_TOKEN,
    }
}

program_environment! {
    /// A service beside the gateway. It does not get the token: only servers that `proxy.json` marks do.
    ServiceEnv {
        root: STELAE_ROOT,
        config_home: STELAE_CONFIG_HOME,
        state_home: STELAE_STATE_HOME,
        bin_dir: STELAE_BIN_DIR,
        workspace_root: STELAE_WORKSPACE_ROOT,
        run_id: STELAE_RUN_ID,
        proxy_host: PROXY_HOST,
        proxy_port: PROXY_PORT,
        public_base_url: PUBLIC_BASE_URL,
    }
}

program_environment! {
    /// An agent that drives the stack.
    AgentEnv {
        config_home: STELAE_CONFIG_HOME,
        state_home: STELAE_STATE_HOME,
        run_id: STELAE_RUN_ID,
        proxy_host: PROXY_HOST,
        proxy_port: PROXY_PORT,
        public_base_url: PUBLIC_BASE_URL,
        mcp_token: STELAE_MCP_TOKEN,
    }
}

program_environment! {
    /// Codex CLI, playing a stage.
    CodexEnv {
        home: CODEX_HOME,
        mcp_token: STELAE_MCP_TOKEN,
        https_proxy: HTTPS_PROXY,
        http_proxy: HTTP_PROXY,
        no_proxy: NO_PROXY,
        ssl_cert_file: SSL_CERT_FILE,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// Claude Code, playing a stage. It hands all of this to servers on stdio: it is given none.
    ClaudeEnv {
        home: CLAUDE_CONFIG_DIR,
        base_url: ANTHROPIC_BASE_URL,
        api_key: ANTHROPIC_API_KEY,
        no_traffic: CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC,
        max_retries: CLAUDE_CODE_MAX_RETRIES,
        no_fallback: CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK,
        tool_search: ENABLE_TOOL_SEARCH,
        mcp_token: STELAE_MCP_TOKEN,
        https_proxy: HTTPS_PROXY,
        http_proxy: HTTP_PROXY,
        no_proxy: NO_PROXY,
        ssl_cert_file: SSL_CERT_FILE,
        extra_ca_certs: NODE_EXTRA_CA_CERTS,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// The harness itself, started by a run from a clone: bundle installer, renderer, restart. It is told its root and its run
    /// by arguments: what it finds under the names of the harness it does not take, whoever the caller is. It carries the
    /// id of the run all the same, by which leftovers are found.
    XtaskEnv {
        config_home: STELAE_CONFIG_HOME,
        state_home: STELAE_STATE_HOME,
        supervisor_home: STELAE_SUPERVISOR_HOME,
        cache_home: STELAE_CACHE_HOME,
        workspace_root: STELAE_WORKSPACE_ROOT,
        run_id: STELAE_RUN_ID,
        proxy_host: PROXY_HOST,
        proxy_port: PROXY_PORT,
        public_base_url: PUBLIC_BASE_URL,
        mcp_token: STELAE_MCP_TOKEN,
        no_color: NO_COLOR,
        ci: CI,
    }
}

program_environment! {
    /// cargo, building a clone: the only program that borrows from the host's Rust installation.
    CargoEnv {
        cargo_home: CARGO_HOME,
        rustup_home: RUSTUP_HOME,
        rustup_toolchain: RUSTUP_TOOLCHAIN,
        target_dir: CARGO_TARGET_DIR,
        build_dir: CARGO_BUILD_BUILD_DIR,
        run_id: STELAE_RUN_ID,
        net_offline: CARGO_NET_OFFLINE,
        http_cainfo: CARGO_HTTP_CAINFO,
        ssl_cert_file: SSL_CERT_FILE,
        https_proxy: HTTPS_PROXY,
        no_proxy: NO_PROXY,
    }
}

program_environment! {
    /// git: never asks, never locks for a look.
    GitEnv {
        terminal_prompt: GIT_TERMINAL_PROMPT,
        optional_locks: GIT_OPTIONAL_LOCKS,
        no_lazy_fetch: GIT_NO_LAZY_FETCH,
        config_global: GIT_CONFIG_GLOBAL,
        config_nosystem: GIT_CONFIG_NOSYSTEM,
        ceilings: GIT_CEILING_DIRECTORIES,
        index_file: GIT_INDEX_FILE,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// npm and node, installing a tool: the user's registry, proxy and certificates, and a cache of the tools' own.
    NpmEnv {
        registry: NPM_CONFIG_REGISTRY,
        user_config: NPM_CONFIG_USERCONFIG,
        global_config: NPM_CONFIG_GLOBALCONFIG,
        cafile: NPM_CONFIG_CAFILE,
        npm_token: NPM_TOKEN,
        node_auth_token: NODE_AUTH_TOKEN,
        cache: NPM_CONFIG_CACHE,
        update_notifier: NPM_CONFIG_UPDATE_NOTIFIER,
        extra_ca_certs: NODE_EXTRA_CA_CERTS,
        ssl_cert_file: SSL_CERT_FILE,
        https_proxy: HTTPS_PROXY,
        http_proxy: HTTP_PROXY,
        no_proxy: NO_PROXY,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// Python and pip, installing a tool: the same.
    PythonEnv {
        index_url: PIP_INDEX_URL,
        extra_index_url: PIP_EXTRA_INDEX_URL,
        find_links: PIP_FIND_LINKS,
        no_index: PIP_NO_INDEX,
        trusted_host: PIP_TRUSTED_HOST,
        cert: PIP_CERT,
        client_cert: PIP_CLIENT_CERT,
        config_file: PIP_CONFIG_FILE,
        timeout: PIP_DEFAULT_TIMEOUT,
        cache_dir: PIP_CACHE_DIR,
        no_version_check: PIP_DISABLE_PIP_VERSION_CHECK,
        no_input: PIP_NO_INPUT,
        xdg_config_home: XDG_CONFIG_HOME,
        netrc: NETRC,
        requests_ca_bundle: REQUESTS_CA_BUNDLE,
        ssl_cert_file: SSL_CERT_FILE,
        ssl_cert_dir: SSL_CERT_DIR,
        https_proxy: HTTPS_PROXY,
        http_proxy: HTTP_PROXY,
        no_proxy: NO_PROXY,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// go, building a tool: the same.
    GoEnv {
        proxy: GOPROXY,
        sumdb: GOSUMDB,
        no_sumdb: GONOSUMDB,
        private: GOPRIVATE,
        no_go_proxy: GONOPROXY,
        insecure: GOINSECURE,
        flags: GOFLAGS,
        toolchain: GOTOOLCHAIN,
        env: GOENV,
        path: GOPATH,
        mod_cache: GOMODCACHE,
        cache: GOCACHE,
        tmpdir: GOTMPDIR,
        bin: GOBIN,
        cgo: CGO_ENABLED,
        xdg_config_home: XDG_CONFIG_HOME,
        netrc: NETRC,
        ssl_cert_file: SSL_CERT_FILE,
        ssl_cert_dir: SSL_CERT_DIR,
        https_proxy: HTTPS_PROXY,
        http_proxy: HTTP_PROXY,
        no_proxy: NO_PROXY,
        run_id: STELAE_RUN_ID,
    }
}

program_environment! {
    /// A service of `soak`, which needs nothing but to be found.
    SoakEnv { run_id: STELAE_RUN_ID }
}

program_environment! {
    /// What `bench` compares the gateway with, which needs nothing but to be found.
    BenchEnv { run_id: STELAE_RUN_ID }
}

/// The MCP gateway, or the program that a stack names in its place.
pub const GATEWAY: Program<GatewayEnv> = Program::new("gateway");
/// A server behind the gateway; started by the gateway.
pub const SERVER: Program<ServerEnv> = Program::new("server");
/// A service beside the gateway, each under its own name: `service:NAME`.
pub const SERVICE: Program<ServiceEnv> = Program::new("service");
/// The builtin agent.
pub const AGENT: Program<AgentEnv> = Program::new("agent");
/// Codex CLI.
pub const CODEX: Program<CodexEnv> = Program::new("codex");
/// Claude Code.
pub const CLAUDE: Program<ClaudeEnv> = Program::new("claude");
/// A clone's own `xtask`.
pub const XTASK: Program<XtaskEnv> = Program::new("xtask");
/// cargo.
pub const CARGO: Program<CargoEnv> = Program::new("cargo");
/// git.
pub const GIT: Program<GitEnv> = Program::new("git");
/// npm, or the node it runs on.
pub const NPM: Program<NpmEnv> = Program::new("npm");
/// Python, which pip is a module of.
pub const PYTHON: Program<PythonEnv> = Program::new("python");
/// go.
pub const GO: Program<GoEnv> = Program::new("go");
/// A service that gets away, for `soak`.
pub const SOAK: Program<SoakEnv> = Program::new("soak");
/// Another gateway, or a server by itself, for `bench`.
pub const BENCH: Program<BenchEnv> = Program::new("bench");

/// One row of `env matrix`: a program and what it reads.
#[derive(Debug)]
pub struct MatrixRow {
    /// The program's name; `base` for what all of them get.
    pub program: &'static str,
    /// The variables it reads.
    pub variables: &'static [&'static Declared],
}

fn row<E: ProgramEnv>(program: &Program<E>) -> MatrixRow {
    MatrixRow { program: program.name, variables: E::VARIABLES }
}

/// Program × variable: every program of this file.
pub fn matrix() -> Vec<MatrixRow> {
    vec![
        MatrixRow { program: "(base)", variables: Base::VARIABLES },
        row(&GATEWAY),
        row(&SERVER),
        row(&SERVICE),
        row(&AGENT),
        row(&CODEX),
        row(&CLAUDE),
        row(&XTASK),
        row(&CARGO),
        row(&GIT),
        row(&NPM),
        row(&PYTHON),
        row(&GO),
    ]
}

/// Looks a variable up in the registry.
pub fn declared(name: &str) -> Option<&'static Declared> {
    REGISTRY.iter().copied().find(|declared| declared.name == name)
}
