//! Renders `proxy.json`: reads what it is made of, and writes it so that nobody ever sees half of it.

mod home;
mod output;

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use stelae_model::bundle::{Folder, server_entry};
use stelae_model::proxy::ProxyConfig;
use stelae_model::render::{self, Node, ServerNode, Source, Syntax};
use stelae_model::{ExitCode, Failure};

pub use home::Home;
pub use output::{Written, check, diff, render_and_write, write};

pub(crate) use output::{prepare, unwritable};

use crate::bundle::{InstalledServer, installed_servers, read_installed};
use crate::files::{confine, follow, read_text};

/// What `proxy.json` shall be. Nothing is written yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Where it belongs.
    pub path: Utf8PathBuf,
    /// Its whole text.
    pub text: String,
    /// The same, typed.
    pub config: ProxyConfig,
    /// The files it was made of, in the order of composition.
    pub sources: Vec<String>,
}

/// Renders from the template, the installed bundles and the overlay of a home.
///
/// # Errors
/// Exit 21, or 20 if a variable is to blame, with file, line and column: whatever is wrong with one of the files, with
/// what they yield together, or with the place of the output. Nothing is written in any case.
pub fn render_proxy(home: &Home) -> Result<Rendered, Failure> {
    let installed = read_installed(home).map_err(as_render)?;
    render_with(home, &installed)
}

/// Renders as if these bundles were installed: how an install is tried before it is done.
pub(crate) fn render_with(home: &Home, installed: &BTreeMap<String, Folder>) -> Result<Rendered, Failure> {
    check_output(home)?;
    let template = read_source(&home.template, "template", "the template")?;
    let servers = installed_servers(home, installed).map_err(as_render)?;
    let overlay = read_overlay(home)?;

    let mut root = resolved(&template, home, home.syntax)?;
    let nodes = servers.iter().map(|InstalledServer { bundle, name, source }| {
        // Descriptors are ours, and written in our syntax, whatever the template is.
        let entry = render::resolve(server_entry(source)?, &home.names, Syntax::Angles)?;
        Ok(ServerNode { bundle: bundle.clone(), name: name.clone(), entry })
    });
    root = render::add_servers(root, nodes.collect::<Result<_, Failure>>()?)?;
    if let Some(overlay) = &overlay {
        root = render::merge_patch(Some(root), resolved(overlay, home, home.syntax)?);
    }
    let finished = render::finish(&root)?;
    let files = [&template].into_iter().chain(servers.iter().map(|server| &server.source)).chain(&overlay);
    let sources = files.map(|source| source.file.clone()).collect();
    Ok(Rendered { path: home.output.clone(), text: finished.text, config: finished.config, sources })
}

fn resolved<'s>(source: &'s Source, home: &Home, syntax: Syntax) -> Result<Node<'s>, Failure> {
    render::resolve(render::parse_json(source)?, &home.names, syntax)
}

/// The overlay in the config home is optional, one that was asked for is not.
fn read_overlay(home: &Home) -> Result<Option<Source>, Failure> {
    let (path, asked) = match &home.overlay {
        Some(path) => (path.clone(), true),
        None => (home.default_overlay(), false),
    };
    match read_source(&path, "overlay", "the overlay") {
        Err(failure) if failure.kind == "overlay-missing" && !asked && !path.is_symlink() => Ok(None),
        other => other.map(Some),
    }
}

fn read_source(path: &Utf8Path, kind: &str, what: &str) -> Result<Source, Failure> {
    Ok(Source::new(path.as_str(), read_text(path, ExitCode::Render, kind, what)?))
}

/// The output must lie in the config home or the state home, and must be none of the inputs.
fn check_output(home: &Home) -> Result<(), Failure> {
    let refuse = |cause: String| {
        Failure::new(
            ExitCode::Render,
            "output-refused",
            "the output must be a file in the config or state home",
        )
        .on(home.output.as_str())
        .because(cause)
        .hint(format!("write it to {}", home.config_home.join("proxy.json")))
    };
    confine(&home.output, &[&home.config_home, &home.state_home]).map_err(refuse)?;
    // Paths are compared as the places that they lead to: a symlinked folder gives every file in it a second name.
    let output = entry(&home.output).map_err(refuse)?;
    let (overlay, seed) = (home.default_overlay(), home.discovery_seed());
    let inputs = [Some(&home.template), home.overlay.as_ref(), Some(&overlay), Some(&seed)];
    if inputs.into_iter().flatten().any(|input| names_of(input).contains(&output)) {
        return Err(refuse("it would overwrite what it is made of".to_owned()));
    }
    if names_of(&home.discovery()).contains(&output) {
        return Err(refuse("that is the discovery cache".to_owned()));
    }
    for (folder, what) in [
        (home.bundles(), "the installed bundles"),
        (home.supervisor_home.clone(), "the supervisor's records"),
    ] {
        if follow(&folder).is_ok_and(|folder| output.starts_with(folder)) {
            return Err(refuse(format!("the folder of {what} is not for it")));
        }
    }
    Ok(())
}

/// The place of a file: its folder, with symlinks followed, and its name. A symlink of that name would be replaced.
fn entry(path: &Utf8Path) -> Result<Utf8PathBuf, String> {
    let parent = path.parent().ok_or("it names no file")?;
    Ok(follow(parent)?.join(path.file_name().ok_or("it names no file")?))
}

/// The places that a file is read from: its own, and where a symlink of its name leads. One that cannot be followed
/// cannot be read either, and that is said when it is.
fn names_of(path: &Utf8Path) -> Vec<Utf8PathBuf> {
    [entry(path), follow(path)].into_iter().flatten().collect()
}

/// A broken bundle met while rendering is a failure of rendering; a bad variable stays one.
fn as_render(mut failure: Failure) -> Failure {
    if failure.exit_code == ExitCode::Bundle {
        failure.exit_code = ExitCode::Render;
    }
    failure
}

#[cfg(test)]
pub(crate) mod tests;
