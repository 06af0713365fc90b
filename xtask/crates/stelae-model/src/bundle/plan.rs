//! What an install or a removal would do, decided before anything is touched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::folder::sha256;
use super::manifest::select;
use super::{Bundle, Folder, Record};
use crate::render::unified_diff;
use crate::{ExitCode, Failure};

/// What happens to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is not there yet.
    Add,
    /// The bundle has a newer text.
    Update,
    /// Nothing: it is there as the bundle has it.
    UpToDate,
    /// A person's edit is replaced, because that was asked for.
    Overwrite,
    /// It goes.
    Remove,
    /// A person's edit would be lost: the whole plan is refused.
    Conflict,
}

impl Action {
    /// The word for it once it was done, in a line of output.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Add => "installed",
            Self::Update => "updated",
            Self::UpToDate => "up to date",
            Self::Overwrite => "overwritten",
            Self::Remove => "removed",
            Self::Conflict => "edited",
        }
    }

    /// The word for it in a plan.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::UpToDate => "up to date",
            Self::Overwrite => "overwrite",
            Self::Remove => "remove",
            Self::Conflict => "conflict",
        }
    }
}

/// What to do with files that a person changed after they were installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Edits {
    /// Keep them: refuse the plan.
    #[default]
    Keep,
    /// Overwrite or remove them (`--force`).
    Overwrite,
}

/// The plan for one server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPlan {
    /// The server.
    pub server: String,
    /// What happens to it.
    pub action: Action,
    /// For `conflict` and `overwrite`: what a person wrote, against what comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// The plan for one bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The bundle.
    pub bundle: String,
    /// Its servers, sorted.
    pub servers: Vec<ServerPlan>,
    /// The folder as it will be.
    #[serde(skip)]
    pub after: Folder,
    /// Whether the folder changes at all.
    pub changes: bool,
}

impl Plan {
    /// The refusal, if a person's edit is in the way. `place` is the bundle's folder.
    ///
    /// # Errors
    /// `edited` (exit 22) with the difference.
    pub fn refuse_conflicts(&self, place: &str) -> Result<(), Failure> {
        let Some(first) = self.servers.iter().find(|server| server.action == Action::Conflict) else {
            return Ok(());
        };
        let what = format!(
            "server {:?} of bundle {:?} was edited, and the edit would be lost",
            first.server, self.bundle
        );
        let diff = first.diff.as_deref().unwrap_or_default();
        Err(Failure::new(ExitCode::Bundle, "edited", what)
            .on(format!("{place}/servers/{}.toml", first.server))
            .log_tail(diff.lines().map(str::to_owned).collect())
            .hint("repeat with --force to lose the edit; nothing was changed"))
    }
}

/// Plans to install the servers `asked` of a bundle (all, if none is named) over what is there.
///
/// A full install also removes what the bundle no longer has; a partial one only adds and updates.
///
/// # Errors
/// `unknown-server` (exit 22). Conflicts are part of the plan, see [`Plan::refuse_conflicts`].
pub fn plan_install(
    bundle: &Bundle,
    before: &Folder,
    asked: &[String],
    edits: Edits,
) -> Result<Plan, Failure> {
    let mut after = before.clone();
    let mut record = before.record.clone().unwrap_or_else(|| Record {
        schema: Record::SCHEMA,
        bundle: bundle.manifest.name.clone(),
        version: String::new(),
        servers: BTreeMap::new(),
    });
    record.version.clone_from(&bundle.manifest.version);
    let mut servers = Vec::new();
    for server in bundle.select(asked)? {
        let text = &bundle.servers[&server].source.text;
        servers.push(judge(&server, before, Some(text), edits));
        record.servers.insert(server.clone(), sha256(text.as_bytes()));
        after.servers.insert(server, text.clone().into_bytes());
    }
    let gone = before.installed().filter(|server| asked.is_empty() && !bundle.servers.contains_key(*server));
    for server in gone {
        servers.push(judge(server, before, None, edits));
        record.servers.remove(server);
        after.servers.remove(server);
    }
    after.record = Some(record);
    Ok(finish(&bundle.manifest.name, servers, before, after))
}

/// Plans to remove the servers `asked` (all, if none is named) of an installed bundle.
///
/// # Errors
/// `not-installed` or `unknown-server` (exit 22).
pub fn plan_remove(bundle: &str, before: &Folder, asked: &[String], edits: Edits) -> Result<Plan, Failure> {
    if before.record.is_none() {
        let what = format!("bundle {bundle:?} is not installed");
        return Err(Failure::new(ExitCode::Bundle, "not-installed", what).hint("cargo xtask bundle list"));
    }
    let mut after = before.clone();
    let mut servers = Vec::new();
    for server in select(bundle, before.installed(), asked)? {
        servers.push(judge(&server, before, None, edits));
        after.servers.remove(&server);
        if let Some(record) = &mut after.record {
            record.servers.remove(&server);
        }
    }
    // The last server takes the record with it; what a person put into the folder stays.
    after.record = after.record.filter(|record| !record.servers.is_empty());
    Ok(finish(bundle, servers, before, after))
}

fn finish(bundle: &str, mut servers: Vec<ServerPlan>, before: &Folder, after: Folder) -> Plan {
    servers.sort_by(|a, b| a.server.cmp(&b.server));
    Plan { bundle: bundle.to_owned(), servers, changes: *before != after, after }
}

/// What happens to one server that shall have this text, or be gone.
fn judge(server: &str, before: &Folder, text: Option<&str>, edits: Edits) -> ServerPlan {
    let plan = |action, diff| ServerPlan { server: server.to_owned(), action, diff };
    let there = before.servers.get(server);
    let Some(there) = there else {
        return plan(if text.is_some() { Action::Add } else { Action::Remove }, None);
    };
    if text.is_some_and(|text| text.as_bytes() == there.as_slice()) {
        return plan(Action::UpToDate, None);
    }
    if before.recorded(server) == Some(sha256(there).as_str()) {
        return plan(if text.is_some() { Action::Update } else { Action::Remove }, None);
    }
    let theirs = String::from_utf8_lossy(there);
    let diff = unified_diff("edited", &theirs, "bundle", text.unwrap_or_default());
    let action = match edits {
        Edits::Keep => Action::Conflict,
        Edits::Overwrite if text.is_some() => Action::Overwrite,
        Edits::Overwrite => Action::Remove,
    };
    plan(action, Some(diff))
}

#[cfg(test)]
mod tests;
