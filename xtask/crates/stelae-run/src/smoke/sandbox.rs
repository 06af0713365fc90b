//! The sandbox of a run: its own homes, its own address and port; and the typed environment that follows from them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use stelae_model::Failure;
use stelae_model::env::declared::{STELAE_BIN_DIR, STELAE_ROOT, STELAE_RUN_ID};
use stelae_model::env::{Environment, Given, Layers};

/// Where the processes of a run live.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Id of the run.
    pub run: String,
    /// The workspace; everything below is in it.
    pub workspace: Utf8PathBuf,
    /// The loopback address that the run has leased; runs of before there were leases had 127.0.0.1.
    #[serde(default = "unleased")]
    pub address: IpAddr,
    /// The port that the run's gateway has.
    pub port: u16,
}

fn unleased() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}

/// What a sandbox borrows from the host: variables that its processes get as they are. Listed in the evidence.
pub(super) const BORROWED: [&str; 16] = [
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "NO_COLOR",
    "CI",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_NET_OFFLINE",
    "CARGO_HTTP_CAINFO",
    "SSL_CERT_FILE",
    "HTTPS_PROXY",
    "NO_PROXY",
    "STELAE_CACHE_HOME",
    "STELAE_MCP_TOKEN",
];

impl Sandbox {
    /// Where the run's gateway listens.
    pub fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// The clone.
    pub fn repo(&self) -> Utf8PathBuf {
        self.workspace.join("repo")
    }

    /// The programs built from the clone.
    pub fn bin_dir(&self) -> Utf8PathBuf {
        self.workspace.join("bin")
    }

    /// The config home.
    pub fn config_home(&self) -> Utf8PathBuf {
        self.workspace.join("config")
    }

    /// The rendered configuration of the gateway.
    pub fn proxy_json(&self) -> Utf8PathBuf {
        self.config_home().join("proxy.json")
    }

    /// The home of its user.
    pub fn home(&self) -> Utf8PathBuf {
        self.workspace.join("home")
    }

    /// What git reads besides the clone's own configuration.
    pub fn git_config(&self) -> Utf8PathBuf {
        self.home().join(".gitconfig")
    }

    /// Its temporary files.
    pub fn tmp(&self) -> Utf8PathBuf {
        self.workspace.join("tmp")
    }

    /// The environment of everything that runs in the sandbox.
    ///
    /// # Errors
    /// Exit 20, when the host's variables are not what they should be.
    pub fn environment(&self, host: &Environment) -> Result<Environment, Failure> {
        let mut process: Vec<(String, String)> = BORROWED
            .iter()
            .filter_map(|&name| Some((name.to_owned(), host.text(name)?.to_owned())))
            .collect();
        let mut own = |name: &str, value: &Utf8Path| process.push((name.to_owned(), value.to_string()));
        own("HOME", &self.home());
        own("TMPDIR", &self.tmp());
        own("STELAE_CONFIG_HOME", &self.config_home());
        own("STELAE_STATE_HOME", &self.workspace.join("state"));
        own("STELAE_SUPERVISOR_HOME", &self.workspace.join("supervisor"));
        own("STELAE_WORKSPACE_ROOT", &self.repo());
        process.push(("PROXY_HOST".to_owned(), self.address.to_string()));
        process.push(("PROXY_PORT".to_owned(), self.port.to_string()));
        Environment::resolve(&Layers {
            given: vec![
                Given::of::<STELAE_ROOT>(self.repo().as_str()),
                Given::of::<STELAE_BIN_DIR>(self.bin_dir().as_str()),
                Given::of::<STELAE_RUN_ID>(self.run.as_str()),
            ],
            process,
            ..Layers::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stelae_model::env::{ProgramEnv as _, XtaskEnv};

    #[test]
    fn a_sandbox_shares_no_home_no_address_and_no_port_with_the_host() {
        let process = [("HOME", "/home/me"), ("PROXY_PORT", "1"), ("PATH", "/bin"), ("CARGO_HOME", "/c")];
        let process = process.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let host = Environment::resolve(&Layers { process, ..Layers::default() }).unwrap();
        let sandbox =
            Sandbox { run: "r".into(), workspace: "/w".into(), address: [127, 0, 0, 99].into(), port: 4711 };
        let inside = sandbox.environment(&host).unwrap();
        let pairs = XtaskEnv::from_environment(&inside).unwrap().pairs();
        let text = |name: &str| pairs.iter().find(|(other, _)| *other == name).map(|(_, text)| text.as_str());
        assert_eq!(text("PROXY_PORT"), Some("4711"));
        assert_eq!(text("PUBLIC_BASE_URL"), Some("http://127.0.0.99:4711"));
        assert_eq!(inside.text("PROXY_HOST"), Some("127.0.0.99"));
        assert_eq!((text("STELAE_RUN_ID"), inside.text("STELAE_ROOT")), (Some("r"), Some("/w/repo")));
        assert_eq!(inside.text("HOME"), Some("/w/home"));
        assert_eq!(inside.text("CARGO_HOME"), Some("/c"));
        assert_eq!(inside.text("STELAE_CACHE_HOME"), Some("/home/me/.cache/stelae"));
    }

    #[test]
    fn a_sandbox_of_before_there_were_leases_is_read() {
        let old = r#"{"run": "r", "workspace": "/w", "port": 4711}"#;
        let sandbox: Sandbox = serde_json::from_str(old).unwrap();
        assert_eq!(sandbox.endpoint(), ([127, 0, 0, 1], 4711).into());
    }
}
