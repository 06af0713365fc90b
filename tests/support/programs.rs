//! The programs under test: built once per test process, by cargo, from the working tree.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use camino::Utf8PathBuf;
use serde_json::Value;

/// Where the built programs are.
#[derive(Debug)]
pub struct Programs {
    /// `xtask`.
    pub xtask: Utf8PathBuf,
    /// `stelae-gateway`.
    pub gateway: Utf8PathBuf,
}

/// Root of the workspace.
pub fn root() -> Utf8PathBuf {
    Utf8PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// Builds the programs, if that is still to be done, and says where they are.
///
/// # Panics
/// When they do not build.
pub fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let output = Command::new("cargo")
            .args(["build", "--locked", "--package", "xtask", "--package", "stelae-gateway"])
            .args(["--message-format", "json-render-diagnostics"])
            .current_dir(root())
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the programs do not build");
        let text = String::from_utf8(output.stdout).expect("cargo's messages are UTF-8");
        let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let path = |name: &str| {
            let mut built = messages.iter().filter(|message| message["target"]["name"] == name);
            let path = built.find_map(|message| message["executable"].as_str());
            Utf8PathBuf::from(path.expect("cargo says where the program is"))
        };
        Programs { xtask: path("xtask"), gateway: path("stelae-gateway") }
    })
}
