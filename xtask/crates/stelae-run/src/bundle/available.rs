//! Reads a bundle that can be installed, from a folder that is not trusted to stay within itself.

use std::collections::BTreeMap;
use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::bundle::{Bundle, Descriptor, Manifest, ServerFile, check_name};
use stelae_model::env::nearest;
use stelae_model::render::Source;
use stelae_model::{ExitCode, Failure, server_name};

use super::io_failure;
use crate::files::{limits, read_untrusted_text_as};
use crate::render::Home;

/// Finds a bundle by its name in `config/bundles`, or by a path: whatever contains a `/`, or is `.`.
///
/// # Errors
/// Exit 22: `unknown-bundle` with the nearest name, or whatever is wrong with the bundle.
pub fn find_bundle(home: &Home, name_or_path: &str) -> Result<Bundle, Failure> {
    if name_or_path.contains('/') || name_or_path == "." {
        return load_bundle(Utf8Path::new(name_or_path));
    }
    check_name("bundle", name_or_path).map_err(|cause| Failure::new(ExitCode::Bundle, "bad-name", cause))?;
    let known = names(home);
    if !known.iter().any(|name| name == name_or_path) {
        let hint = match nearest(name_or_path, known.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "cargo xtask bundle list".to_owned(),
        };
        let what = format!("there is no bundle {name_or_path:?}");
        return Err(Failure::new(ExitCode::Bundle, "unknown-bundle", what)
            .on(home.available_bundles().as_str())
            .hint(hint));
    }
    let dir = home.available_bundles().join(name_or_path);
    no_symlink(&dir)?;
    let bundle = load_bundle(&dir)?;
    if bundle.manifest.name != name_or_path {
        let what = format!("bundle {name_or_path:?} calls itself {:?}", bundle.manifest.name);
        return Err(Failure::new(ExitCode::Bundle, "bad-bundle", what).on(dir.join("bundle.toml").as_str()));
    }
    Ok(bundle)
}

/// The names of the folders in `config/bundles`, sorted.
pub(super) fn names(home: &Home) -> Vec<String> {
    let entries = home.available_bundles().read_dir_utf8().into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_owned());
    let mut names: Vec<_> = names.filter(|name| check_name("bundle", name).is_ok()).collect();
    names.sort();
    names
}

/// Reads a bundle's folder: `bundle.toml`, and `servers/*.toml`. Other files beside `bundle.toml` (a README) are none
/// of its business; in `servers` there are no others.
///
/// # Errors
/// Exit 22: what is missing, unreadable or badly described, and any symlink: a bundle could lead anywhere through one.
pub fn load_bundle(dir: &Utf8Path) -> Result<Bundle, Failure> {
    let manifest = read(&dir.join("bundle.toml"), "the bundle's description")?;
    let manifest = Manifest::parse(&manifest)?;
    let folder = dir.join("servers");
    no_symlink(&folder)?;
    let mut servers = BTreeMap::new();
    for path in sorted_entries(&folder)? {
        let name = path.file_name().and_then(|name| name.strip_suffix(".toml"));
        let name = name.ok_or_else(|| refuse(&path, "it is no server: servers/<name>.toml"))?.to_owned();
        server_name::check(&name).map_err(|cause| refuse(&path, &cause))?;
        let source = read(&path, "the description of a server")?;
        let descriptor = Descriptor::parse(&source, &name)?;
        servers.insert(name, ServerFile { source, descriptor });
    }
    if servers.is_empty() {
        return Err(refuse(&folder, "there is no server in it"));
    }
    server_name::check_all(servers.keys().map(String::as_str)).map_err(|cause| refuse(&folder, &cause))?;
    Ok(Bundle { manifest, servers })
}

fn read(path: &Utf8Path, what: &str) -> Result<Source, Failure> {
    no_symlink(path)?;
    let limit = limits::BUNDLE_FILE;
    let text = read_untrusted_text_as(path, limit, ExitCode::Bundle, "bundle", what)?;
    Ok(Source::new(path.as_str(), text))
}

fn sorted_entries(folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Failure> {
    let entries = folder.read_dir_utf8().and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path().to_owned())).collect::<Result<Vec<_>, _>>()
    });
    let mut entries = entries
        .map_err(|error| io_failure("bundle-unreadable", "a bundle cannot be read", folder, &error))?;
    entries.sort();
    Ok(entries)
}

fn no_symlink(path: &Utf8Path) -> Result<(), Failure> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            Err(refuse(path, "it is a symlink, which could lead out of the bundle"))
        }
        // What is missing is reported by whoever reads it.
        _ => Ok(()),
    }
}

fn refuse(path: &Utf8Path, cause: &str) -> Failure {
    Failure::new(ExitCode::Bundle, "bad-bundle", "a bundle holds something that cannot be installed")
        .on(path.as_str())
        .because(cause)
}
