//! `grep`: searches the text files of the workspace, as ripgrep does, whose crates do the work.

use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::sinks::Lossy;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use ignore::overrides::{Override, OverrideBuilder};
use ignore::{Walk, WalkBuilder};
use rmcp::model::{JsonObject, Tool, ToolAnnotations, object};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::workspace::Workspace;
use super::{Answer, Told, arguments};

/// The tool's name.
pub(super) const NAME: &str = "grep";

/// Matches in one answer, unless fewer are asked for.
const MATCHES: usize = 1000;
/// Matches in one answer, unless asked for.
const DEFAULT_MATCHES: usize = 100;
/// A longer line is cut.
const LINE_CHARS: usize = 400;
/// A search that takes longer gives what it has.
const TIME: Duration = Duration::from_secs(20);

const ARGUMENTS: &[&str] = &["pattern", "path", "glob", "case_insensitive", "max_results"];

#[derive(Deserialize)]
struct Request {
    pattern: String,
    #[serde(default)]
    path: String,
    glob: Option<String>,
    #[serde(default)]
    case_insensitive: bool,
    max_results: Option<usize>,
}

/// The tool as it is listed.
pub(super) fn tool() -> Tool {
    let schema = json!({
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "description": "Regular expression, in the syntax of Rust's regex crate"},
            "path": {"type": "string", "description": "File or folder to search, relative to the root of the workspace (default: all of it)"},
            "glob": {"type": "string", "description": "Only files that match this glob, as *.rs or src/**"},
            "case_insensitive": {"type": "boolean", "default": false},
            "max_results": {"type": "integer", "minimum": 1, "maximum": MATCHES, "default": DEFAULT_MATCHES},
        },
        "required": ["pattern"],
        "additionalProperties": false,
    });
    let annotations = ToolAnnotations::with_title("Search the workspace")
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    let description =
        "Searches the text files of the workspace line by line; skips hidden files and what .gitignore names";
    Tool::new(NAME, description, object(schema)).with_annotations(annotations)
}

/// A line that matched.
#[derive(Debug, Serialize)]
struct Match {
    path: String,
    line: u64,
    text: String,
}

/// Carries a call out.
pub(super) fn call(workspace: &Workspace, given: JsonObject) -> Told {
    let request: Request = arguments::read(given, ARGUMENTS)?;
    let matcher = RegexMatcherBuilder::new()
        .case_insensitive(request.case_insensitive)
        .line_terminator(Some(b'\n'))
        .build(&request.pattern)
        .map_err(|error| format!("the pattern is wrong: {error}"))?;
    let wanted = request.max_results.unwrap_or(DEFAULT_MATCHES).clamp(1, MATCHES);
    let glob = glob(workspace.root(), request.glob.as_deref())?;
    // Opened only to know that it is there and in the workspace; each file is opened through the workspace again.
    workspace.entry(&request.path)?;
    let start = normal(&request.path);

    let deadline = Instant::now() + TIME;
    let mut searcher = SearcherBuilder::new().binary_detection(BinaryDetection::quit(0)).build();
    let mut matches = Vec::new();
    let mut timed_out = false;
    for path in files(workspace.root(), &start) {
        if matches.len() > wanted {
            break;
        }
        if Instant::now() > deadline {
            timed_out = true;
            break;
        }
        if !glob.matched(&path, false).is_ignore() {
            // One more than wanted, so as to know whether there are more.
            search(workspace, &mut searcher, &matcher, &path, wanted + 1, &mut matches);
        }
    }
    let truncated = timed_out || matches.len() > wanted;
    matches.truncate(wanted);
    Ok(answer(&matches, truncated, timed_out))
}

fn answer(matches: &[Match], truncated: bool, timed_out: bool) -> Answer {
    let mut lines: Vec<_> =
        matches.iter().map(|found| format!("{}:{}: {}", found.path, found.line, found.text)).collect();
    if matches.is_empty() && !timed_out {
        lines.push("no matches".to_owned());
    }
    if timed_out {
        lines.push(format!(
            "… stopped after {} s: search in a part of the workspace with `path`",
            TIME.as_secs()
        ));
    } else if truncated {
        lines.push("… and more: narrow the search, or ask for more with `max_results`".to_owned());
    }
    Answer { text: lines.join("\n"), data: Some(json!({"matches": matches, "truncated": truncated})) }
}

/// The path as it stands below the root, without `.` and with each `..` taken back. That it stays below, the kernel said.
fn normal(path: &str) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::new();
    for part in Utf8Path::new(path).components() {
        match part {
            camino::Utf8Component::Normal(name) => normal.push(name),
            camino::Utf8Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

fn glob(root: &Utf8Path, glob: Option<&str>) -> Result<Override, String> {
    let mut builder = OverrideBuilder::new(root);
    if let Some(glob) = glob {
        builder.add(glob).map_err(|error| format!("the glob is wrong: {error}"))?;
    }
    builder.build().map_err(|error| format!("the glob is wrong: {error}"))
}

/// The files at and below `start`, relative to the root, in the order of their names.
///
/// The walk always begins at the root, so that each .gitignore on the way counts, and none above the root does.
/// Symlinks are not followed.
fn files(root: &Utf8Path, start: &Utf8Path) -> impl Iterator<Item = Utf8PathBuf> {
    let (base, wanted) = (root.to_owned(), start.to_owned());
    let walk: Walk = WalkBuilder::new(root)
        .parents(false)
        .git_global(false)
        .require_git(false)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(move |entry| {
            let below = entry.path().strip_prefix(&base).ok().and_then(Utf8Path::from_path);
            below.is_some_and(|path| path.starts_with(&wanted) || wanted.starts_with(path))
        })
        .build();
    let root = root.to_owned();
    walk.filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .filter_map(move |entry| {
            Some(Utf8PathBuf::from_path_buf(entry.into_path()).ok()?.strip_prefix(&root).ok()?.to_owned())
        })
}

fn search(
    workspace: &Workspace,
    searcher: &mut Searcher,
    matcher: &RegexMatcher,
    path: &Utf8Path,
    enough: usize,
    matches: &mut Vec<Match>,
) {
    // Through the workspace: a folder may have become a symlink since it was listed. What cannot be opened is passed over,
    // as ripgrep does with a message that nobody would read here.
    let Ok(file) = workspace.entry(path.as_str()) else {
        return;
    };
    let sink = Lossy(|line, text| {
        let text = text.trim_end().chars().take(LINE_CHARS).collect();
        matches.push(Match { path: path.to_string(), line, text });
        Ok(matches.len() < enough)
    });
    searcher.search_file(matcher, &file, sink).ok();
}
