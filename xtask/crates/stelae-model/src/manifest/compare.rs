//! What differs between two manifests.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::{Content, Declared, Entry, INDEX, Manifest, What};

/// One entry that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its place.
    pub place: String,
    /// How it differs; never empty.
    pub changes: Vec<Change>,
}

/// One way in which an entry differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added(Entry),
    /// It is not there any more.
    Removed(Entry),
    /// Its content.
    Content,
    /// Its content could be compared, and cannot be now; and why.
    Unread(String),
    /// What kind of entry it is.
    Type(&'static str, &'static str),
    /// Its mode.
    Mode(u32, u32),
    /// Its user or group.
    Owner((u32, u32), (u32, u32)),
    /// Where a link leads.
    Link(String, String),
    /// What git's index says of it.
    Index(String, String),
}

/// Compares two looks at the same roots. In the order of the places; what git's index says comes last.
pub fn compare(was: &Manifest, is: &Manifest) -> Vec<Difference> {
    let difference = |place: &String, was: Option<&Entry>, is: Option<&Entry>| {
        let changes = match (was, is) {
            (Some(was), Some(is)) => changes(was, is),
            (None, Some(is)) => vec![Change::Added(is.clone())],
            (Some(was), None) => vec![Change::Removed(was.clone())],
            (None, None) => Vec::new(),
        };
        (!changes.is_empty()).then(|| Difference { place: place.clone(), changes })
    };
    let mut differences: Vec<_> = side_by_side(&was.entries, &is.entries, difference).collect();
    // An index that is gone, or cannot be read, is a difference of its own.
    let both = [was, is].iter().all(|manifest| !manifest.tracked.is_empty());
    if both && !Arc::ptr_eq(&was.tracked, &is.tracked) {
        let says = |says: Option<&String>| says.cloned().unwrap_or_else(|| "nothing".to_owned());
        let index = |name: &String, was: Option<&String>, is: Option<&String>| {
            let changes = vec![Change::Index(says(was), says(is))];
            (was != is).then(|| Difference { place: format!("{INDEX}//{name}"), changes })
        };
        differences.extend(side_by_side(&was.tracked, &is.tracked, index));
    }
    differences
}

/// What `judge` says of each name of both, in their order.
fn side_by_side<V>(
    was: &BTreeMap<String, V>,
    is: &BTreeMap<String, V>,
    judge: impl Fn(&String, Option<&V>, Option<&V>) -> Option<Difference>,
) -> impl Iterator<Item = Difference> {
    let (mut was, mut is) = (was.iter().peekable(), is.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (was.peek(), is.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let one = if order == Ordering::Greater { None } else { was.next() };
            let other = if order == Ordering::Less { None } else { is.next() };
            let (name, _) = one.or(other)?;
            let judged = judge(name, one.map(|(_, value)| value), other.map(|(_, value)| value));
            if judged.is_some() {
                return judged;
            }
        }
    })
}

fn changes(was: &Entry, is: &Entry) -> Vec<Change> {
    let mut changes = Vec::new();
    match (&was.what, &is.what) {
        (What::File { content: Content::Index, .. }, What::File { content: Content::Index, .. }) => {}
        // What was not read the first time cannot be vouched for, either.
        (_, What::File { content: Content::Unread(why), .. }) => changes.push(Change::Unread(why.clone())),
        (What::File { bytes: was, content: one }, What::File { bytes: is, content: other })
            if was != is || one != other =>
        {
            changes.push(Change::Content);
        }
        (What::Link(was), What::Link(is)) if was != is => {
            changes.push(Change::Link(was.clone(), is.clone()));
        }
        (was, is) if was.word() != is.word() => changes.push(Change::Type(was.word(), is.word())),
        (was, is) if was != is => changes.push(Change::Content),
        _ => {}
    }
    if was.mode != is.mode {
        changes.push(Change::Mode(was.mode, is.mode));
    }
    if was.owner != is.owner {
        changes.push(Change::Owner(was.owner, is.owner));
    }
    changes
}

/// Set-user-id, set-group-id, sticky, and writable by every user: no declaration covers a file that comes like this.
const SUSPICIOUS: u32 = 0o7002;

impl Difference {
    /// Whether a declaration of this place covers it: regular files and folders that come, go, or have another content. What else
    /// changes (a type, a mode, an owner, a link) is never meant by one.
    pub fn can_be_declared(&self) -> bool {
        let plain = |entry: &Entry| matches!(entry.what, What::File { .. } | What::Folder);
        let read = |entry: &Entry| {
            !matches!(entry.what, What::File { content: Content::Unread(_) | Content::Skipped, .. })
        };
        self.changes.iter().all(|change| match change {
            Change::Added(entry) => plain(entry) && read(entry) && entry.mode & SUSPICIOUS == 0,
            Change::Removed(entry) => plain(entry),
            Change::Content => true,
            _ => false,
        })
    }

    /// Whether it is declared.
    pub fn is_declared(&self, declared: &Declared) -> bool {
        self.can_be_declared() && declared.covers(&self.place)
    }

    fn came_or_went(&self) -> Option<bool> {
        match self.changes.first() {
            Some(Change::Added(_)) => Some(true),
            Some(Change::Removed(_)) => Some(false),
            _ => None,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.replacen("//", ": ", 1);
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        match self.came_or_went() {
            Some(_) => write!(f, "{}: {place}", changes.join(", ")),
            None => write!(f, "changed ({}): {place}", changes.join(", ")),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(entry) => write!(f, "added ({})", entry.what.word()),
            Self::Removed(entry) => write!(f, "removed ({})", entry.what.word()),
            Self::Content => f.write_str("content"),
            Self::Unread(why) => write!(f, "content: {why}"),
            Self::Type(was, is) => write!(f, "type: {was} -> {is}"),
            Self::Mode(was, is) => write!(f, "mode: {was:04o} -> {is:04o}"),
            Self::Owner(was, is) => write!(f, "owner: {}:{} -> {}:{}", was.0, was.1, is.0, is.1),
            Self::Link(was, is) => write!(f, "link: {was} -> {is}"),
            Self::Index(was, is) => write!(f, "index: {was} -> {is}"),
        }
    }
}

/// The differences in lines for a person: no more than `most`, then how many there are besides. What came or went with its folder
/// is told with the folder.
pub fn summary(differences: &[Difference], most: usize) -> Vec<String> {
    let moved: BTreeSet<(&str, bool)> = differences
        .iter()
        .filter_map(|difference| Some((difference.place.as_str(), difference.came_or_went()?)))
        .collect();
    let is_below = |difference: &&Difference| {
        let Some(came) = difference.came_or_went() else { return false };
        difference.place.rsplit_once('/').is_some_and(|(folder, _)| moved.contains(&(folder, came)))
    };
    let (below, told): (Vec<_>, Vec<_>) = differences.iter().partition(is_below);
    let mut lines: Vec<String> = told.iter().take(most).map(ToString::to_string).collect();
    let more = told.len().saturating_sub(most);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    if !below.is_empty() {
        lines.push(format!("and {} below folders that came or went", below.len()));
    }
    lines
}
