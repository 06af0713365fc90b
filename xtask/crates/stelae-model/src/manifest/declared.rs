//! What a run, or a stage of it, may change: places, with wildcards.
//!
//! `repo:target/**` is everything below a folder, `config:servers/*.toml` what has such a name there. `*` stands for any characters
//! of one name, `**` as a whole name for any number of folders. Neither stands for `.git`, which has to be written out.

use serde::{Deserialize, Serialize};

use crate::env::nearest;

/// The roots that a manifest has: the clone, and the run's config home.
pub const ROOTS: [&str; 2] = ["repo", "config"];

/// Any number of folders.
const ANY_FOLDERS: &str = "**";
/// What git keeps beside the work tree.
const GIT: &str = ".git";

/// Declarations, each one read and found good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Declared {
    patterns: Vec<String>,
}

impl Declared {
    /// Reads declarations.
    ///
    /// # Errors
    /// The declaration that is none, what is wrong with it, and what to write instead.
    pub fn read(patterns: &[String]) -> Result<Self, (String, String, Option<String>)> {
        for (index, pattern) in patterns.iter().enumerate() {
            let fault = |(why, hint)| (pattern.clone(), why, hint);
            check(pattern).map_err(fault)?;
            if patterns[..index].contains(pattern) {
                return Err(fault(("it is declared twice".to_owned(), None)));
            }
        }
        Ok(Self { patterns: patterns.to_vec() })
    }

    /// These, and others.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.patterns.extend(other.patterns.iter().cloned());
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a place is declared. A place of git's index is that of the index.
    pub fn covers(&self, place: &str) -> bool {
        let place = place.split_once("//").map_or(place, |(index, _)| index);
        self.patterns.iter().any(|pattern| fits(pattern, place))
    }

    /// Whether something below the folder at this place may be declared.
    pub fn reaches_below(&self, folder: &str) -> bool {
        self.patterns.iter().any(|pattern| {
            let (Some(pattern), Some(folder)) = (split(pattern), split(folder)) else { return false };
            pattern.0 == folder.0 && leads_on(&pattern.1, &folder.1)
        })
    }

    /// The declarations of which none of these places is one.
    pub fn unused<'a>(&self, places: &(impl Iterator<Item = &'a str> + Clone)) -> Vec<&str> {
        let unused = |pattern: &&String| !places.clone().any(|place| fits(pattern, place));
        self.patterns.iter().filter(unused).map(String::as_str).collect()
    }
}

/// What is wrong with a declaration, and what to write instead.
type Fault = (String, Option<String>);

fn check(pattern: &str) -> Result<(), Fault> {
    let fault = |why: &str| Err((why.to_owned(), None));
    let Some((root, path)) = pattern.split_once(':') else {
        let why = "it names no root: it begins with `repo:` or `config:`".to_owned();
        return Err((why, Some(format!("config:{pattern}"))));
    };
    if !ROOTS.contains(&root) {
        let near = nearest(root, ROOTS).map(|near| format!("{near}:{path}"));
        return Err((format!("there is no root {root:?}: there are {}", ROOTS.join(", ")), near));
    }
    if path.is_empty() {
        return fault("it names no path");
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.contains(&"") {
        return fault("a name in it is empty: a path is relative, and does not end with `/`");
    }
    if names.iter().any(|name| matches!(*name, "." | "..")) {
        return fault("`.` and `..` are no names");
    }
    if names.iter().any(|name| name.contains(ANY_FOLDERS) && *name != ANY_FOLDERS) {
        return fault("`**` stands alone between two `/`");
    }
    if names.windows(2).any(|pair| pair == [ANY_FOLDERS; 2]) {
        return fault("`**/**` is `**`");
    }
    // `**`, `*/**`: everything would be declared, and nothing compared.
    if !names.iter().any(|name| name.chars().any(|letter| letter != '*')) {
        return fault("it names everything: a declaration names what is meant");
    }
    Ok(())
}

fn split(place: &str) -> Option<(&str, Vec<&str>)> {
    let (root, path) = place.split_once(':')?;
    Some((root, path.split('/').filter(|name| !name.is_empty()).collect()))
}

fn fits(pattern: &str, place: &str) -> bool {
    let (Some(pattern), Some(place)) = (split(pattern), split(place)) else { return false };
    pattern.0 == place.0 && names_fit(&pattern.1, &place.1)
}

fn names_fit(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((&ANY_FOLDERS, rest)), _) => {
            let skips = names_fit(rest, names) && !(rest.is_empty() && names.is_empty());
            let more = names.split_first().filter(|(name, _)| **name != GIT);
            skips
                || more.is_some_and(|(_, names)| {
                    rest.is_empty() && names.is_empty() || names_fit(pattern, names)
                })
        }
        (Some((one, pattern)), Some((name, names))) => name_fits(one, name) && names_fit(pattern, names),
        _ => false,
    }
}

/// Whether the pattern may fit what is below the folder with these names.
fn leads_on(pattern: &[&str], folder: &[&str]) -> bool {
    match (pattern.split_first(), folder.split_first()) {
        (Some(_), None) => true,
        (Some((&ANY_FOLDERS, _)), Some((name, _))) => *name != GIT,
        (Some((one, pattern)), Some((name, folder))) => name_fits(one, name) && leads_on(pattern, folder),
        (None, _) => false,
    }
}

/// `*` for any characters; everything else for itself.
fn name_fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    if name == GIT {
        return false;
    }
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
