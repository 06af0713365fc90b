//! What is available, what is installed, and how the two differ.

use serde::{Deserialize, Serialize};

use super::folder::sha256;
use super::{Bundle, Folder};

/// How an installed server stands to its bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// The bundle has it, the config home does not.
    Available,
    /// Installed as the bundle has it.
    UpToDate,
    /// Installed, and the bundle has another text now.
    Outdated,
    /// Changed by a person after it was installed.
    Edited,
    /// Recorded as installed, but its file is gone.
    Missing,
    /// Installed, and the bundle it came from does not have it (any more).
    Orphaned,
    /// A descriptor that a person put there: not installed, not rendered.
    Foreign,
}

/// One server of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerStatus {
    /// The server.
    pub server: String,
    /// How it stands.
    pub state: ServerState,
}

/// One bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleStatus {
    /// The bundle.
    pub bundle: String,
    /// What it is for; absent where only the installed copy is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The version in `config/bundles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<String>,
    /// The installed version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Its servers, sorted.
    pub servers: Vec<ServerStatus>,
    /// Files in the installed folder that are none of ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub foreign: Vec<String>,
}

/// Compares an installed folder with the bundle of that name, if there still is one.
pub fn status(name: &str, bundle: Option<&Bundle>, folder: &Folder) -> BundleStatus {
    let mut servers: Vec<&String> = bundle.into_iter().flat_map(|bundle| bundle.servers.keys()).collect();
    servers.extend(folder.installed().chain(folder.servers.keys()));
    servers.sort();
    servers.dedup();
    let server =
        |server: &String| ServerStatus { server: server.clone(), state: state(server, bundle, folder) };
    BundleStatus {
        bundle: name.to_owned(),
        description: bundle.map(|bundle| bundle.manifest.description.clone()),
        available: bundle.map(|bundle| bundle.manifest.version.clone()),
        installed: folder.record.as_ref().map(|record| record.version.clone()),
        servers: servers.into_iter().map(server).collect(),
        foreign: folder.foreign.keys().cloned().collect(),
    }
}

fn state(server: &str, bundle: Option<&Bundle>, folder: &Folder) -> ServerState {
    let ours = bundle.and_then(|bundle| bundle.servers.get(server)).map(|file| file.source.text.as_bytes());
    let there = folder.servers.get(server).map(Vec::as_slice);
    match (folder.recorded(server), there) {
        (None, None) => ServerState::Available,
        (None, Some(_)) => ServerState::Foreign,
        (Some(_), None) => ServerState::Missing,
        (Some(_), Some(there)) if ours == Some(there) => ServerState::UpToDate,
        (Some(recorded), Some(there)) if recorded != sha256(there) => ServerState::Edited,
        (Some(_), Some(_)) if ours.is_none() => ServerState::Orphaned,
        (Some(_), Some(_)) => ServerState::Outdated,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Descriptor, Edits, Manifest, ServerFile, plan_install};
    use super::*;
    use crate::render::Source;

    fn bundle(servers: &[(&str, &str)]) -> Bundle {
        let server = |&(name, command): &(&str, &str)| {
            let text =
                format!("name = '{name}'\ndescription = ''\ntransport = 'stdio'\ncommand = '{command}'\n");
            let source = Source::new("", text);
            (name.to_owned(), ServerFile { descriptor: Descriptor::parse(&source, name).unwrap(), source })
        };
        let manifest = Manifest { name: "b".into(), description: "d".into(), version: "1".into() };
        Bundle { manifest, servers: servers.iter().map(server).collect() }
    }

    #[test]
    fn each_state_is_told() {
        let old =
            bundle(&[("same", "x"), ("old", "x"), ("edited", "x"), ("missing", "x"), ("orphaned", "x")]);
        let mut folder = plan_install(&old, &Folder::default(), &[], Edits::Keep).unwrap().after;
        folder.servers.get_mut("edited").unwrap().push(b'#');
        folder.servers.remove("missing");
        folder.servers.insert("foreign".into(), Vec::new());
        folder.foreign.insert("notes".into(), Vec::new());
        let new = bundle(&[("same", "x"), ("old", "y"), ("edited", "x"), ("missing", "x"), ("new", "x")]);
        let status = status("b", Some(&new), &folder);
        let told: Vec<_> = status.servers.iter().map(|s| (s.server.as_str(), s.state)).collect();
        assert_eq!(
            told,
            [
                ("edited", ServerState::Edited),
                ("foreign", ServerState::Foreign),
                ("missing", ServerState::Missing),
                ("new", ServerState::Available),
                ("old", ServerState::Outdated),
                ("orphaned", ServerState::Orphaned),
                ("same", ServerState::UpToDate),
            ]
        );
        assert_eq!(status.foreign, ["notes"]);
    }
}
