//! Reads what is installed.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::bundle::{self, BundleStatus, Descriptor, Folder, Record, check_name};
use stelae_model::render::Source;
use stelae_model::terminal::shell_word;
use stelae_model::{ExitCode, Failure};

use super::commit::recover;
use super::lock::{Lock, WAIT};
use super::{available, find_bundle, io_failure};
use crate::files::{create_private_dirs, limits, read_untrusted, read_untrusted_text_as};
use crate::render::Home;

/// The file that records an installation.
pub(super) const RECORD: &str = "installed.json";
/// The folder of the descriptors.
pub(super) const SERVERS: &str = "servers";

/// A server of an installed bundle, as it takes part in rendering.
pub(crate) struct InstalledServer {
    pub(crate) bundle: String,
    pub(crate) name: String,
    pub(crate) source: Source,
}

/// Keeps everybody else from changing what is installed, and puts right what changes that died have left.
pub(crate) fn lock_installed(home: &Home) -> Result<Lock, Failure> {
    let dir = home.bundles();
    let failed = |error: io::Error| {
        io_failure("install-failed", "the folder of the installed bundles is not usable", &dir, &error)
    };
    create_private_dirs(&dir).map_err(failed)?;
    let lock = Lock::take(&dir, WAIT)?;
    recover(&dir).map_err(failed)?;
    Ok(lock)
}

/// Every installed bundle by name. A change that is under way is waited for: a folder that is exchanged while it is
/// read would be half the old one and half the new one.
pub(crate) fn read_installed(home: &Home) -> Result<BTreeMap<String, Folder>, Failure> {
    let _lock = Lock::share(&home.bundles(), WAIT)?;
    read_locked(home)
}

/// The same, for who has the lock.
pub(crate) fn read_locked(home: &Home) -> Result<BTreeMap<String, Folder>, Failure> {
    let dir = home.bundles();
    match fs::symlink_metadata(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Ok(found) if found.is_dir() => {}
        _ => return Err(refuse(&dir, "it is not a folder")),
    }
    let entries = dir.read_dir_utf8().map_err(|error| unreadable(&dir, &error))?;
    let mut folders = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(&dir, &error))?;
        // Names with a dot are stages and the lock; a person's notes beside the bundles are none of ours either.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if check_name("bundle", entry.file_name()).is_ok() && !is_file {
            folders.insert(entry.file_name().to_owned(), read_folder(entry.path())?);
        }
    }
    Ok(folders)
}

/// The servers that rendering takes from installed bundles, each checked: those that are recorded as installed.
///
/// A person may have edited a descriptor, so what was checked at the install is checked again.
pub(crate) fn installed_servers(
    home: &Home,
    folders: &BTreeMap<String, Folder>,
) -> Result<Vec<InstalledServer>, Failure> {
    let mut servers = Vec::new();
    for (bundle, folder) in folders {
        for name in folder.installed() {
            let path = home.bundles().join(bundle).join(SERVERS).join(format!("{name}.toml"));
            let source = Source::new(path.as_str(), server_text(&path, bundle, folder, name)?);
            Descriptor::parse(&source, name)?;
            servers.push(InstalledServer { bundle: bundle.clone(), name: name.clone(), source });
        }
    }
    Ok(servers)
}

fn server_text(path: &Utf8Path, bundle: &str, folder: &Folder, name: &str) -> Result<String, Failure> {
    let bytes = folder.servers.get(name).ok_or_else(|| {
        let what = format!("server {name:?} of bundle {bundle:?} is installed, but its file is gone");
        Failure::new(ExitCode::Bundle, "server-missing", what)
            .on(path.as_str())
            .hint(format!("cargo xtask bundle remove {bundle} --server {}", shell_word(name)))
    })?;
    String::from_utf8(bytes.clone()).map_err(|_| refuse(path, "it is not UTF-8"))
}

/// The content of one installed bundle; empty if there is none.
pub(super) fn read_folder(dir: &Utf8Path) -> Result<Folder, Failure> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Folder::default()),
        Ok(found) if found.is_dir() => {}
        _ => return Err(refuse(dir, "it is not a folder")),
    }
    let mut folder = Folder::default();
    let mut waiting = vec![Utf8PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let here = dir.join(&relative);
        for entry in here.read_dir_utf8().map_err(|error| unreadable(&here, &error))? {
            let entry = entry.map_err(|error| unreadable(&here, &error))?;
            let path = relative.join(entry.file_name());
            let kind = entry.file_type().map_err(|error| unreadable(entry.path(), &error))?;
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() {
                take(&mut folder, dir, &path)?;
            } else {
                return Err(refuse(entry.path(), "it is a symlink or no regular file"));
            }
        }
    }
    Ok(folder)
}

/// Sorts one file into the folder's value.
fn take(folder: &mut Folder, dir: &Utf8Path, path: &Utf8Path) -> Result<(), Failure> {
    let full = dir.join(path);
    if path == RECORD {
        folder.record = Some(read_record(&full, dir.file_name().unwrap_or_default())?);
        return Ok(());
    }
    let bytes = read_untrusted(&full, limits::BUNDLE_FILE).map_err(|error| unreadable(&full, &error))?;
    let server = path.file_name().and_then(|name| name.strip_suffix(".toml"));
    match server {
        Some(name) if path.parent() == Some(SERVERS.into()) && check_name("server", name).is_ok() => {
            folder.servers.insert(name.to_owned(), bytes);
        }
        _ => drop(folder.foreign.insert(path.to_string(), bytes)),
    }
    Ok(())
}

/// The record is read as if a stranger had written it: its names become paths.
fn read_record(path: &Utf8Path, bundle: &str) -> Result<Record, Failure> {
    let what = "the record of an installed bundle";
    let text = read_untrusted_text_as(path, limits::RECORD, ExitCode::Bundle, "record", what)?;
    let fault = |cause: String| {
        Failure::new(ExitCode::Bundle, "bad-record", "the record of an installed bundle is not usable")
            .on(path.as_str())
            .because(cause)
            .hint(format!("move the folder away and install again: cargo xtask bundle install {bundle}"))
    };
    let record: Record = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
    if record.schema != Record::SCHEMA {
        return Err(fault(format!(
            "its schema is {}, and this program reads {}",
            record.schema,
            Record::SCHEMA
        )));
    }
    if record.bundle != bundle {
        return Err(fault(format!("it is that of bundle {:?}", record.bundle)));
    }
    for name in record.servers.keys() {
        check_name("server", name).map_err(fault)?;
    }
    Ok(record)
}

/// How every bundle stands, available or installed, by name.
///
/// # Errors
/// Exit 22: a folder that cannot be read, or is not what it should be.
pub fn list(home: &Home) -> Result<Vec<BundleStatus>, Failure> {
    let installed = read_installed(home)?;
    let available = available::names(home);
    let mut names: Vec<&String> = installed.keys().chain(&available).collect();
    names.sort();
    names.dedup();
    let status = |name: &String| {
        let bundle = available.contains(name).then(|| find_bundle(home, name)).transpose()?;
        let folder = installed.get(name).cloned().unwrap_or_default();
        Ok(bundle::status(name, bundle.as_ref(), &folder))
    };
    names.into_iter().map(status).collect()
}

/// How one bundle stands.
///
/// # Errors
/// Exit 22: as [`list`], and `unknown-bundle` if it is neither available nor installed.
pub fn status(home: &Home, name: &str) -> Result<BundleStatus, Failure> {
    match list(home)?.into_iter().find(|status| status.bundle == name) {
        Some(status) => Ok(status),
        None => find_bundle(home, name).map(|bundle| bundle::status(name, Some(&bundle), &Folder::default())),
    }
}

fn unreadable(path: &Utf8Path, error: &io::Error) -> Failure {
    io_failure("installed-unreadable", "an installed bundle cannot be read", path, error)
}

fn refuse(path: &Utf8Path, cause: &str) -> Failure {
    Failure::new(ExitCode::Bundle, "bad-installed", "an installed bundle is not what it should be")
        .on(path.as_str())
        .because(cause)
        .hint("move it away, nothing is changed as long as it is there")
}
