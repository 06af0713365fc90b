//! `grep`: searches the text files of the workspace, as ripgrep does, whose crates do the work.

use std::io::{self, Read};
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
/// What the lines of one answer may hold together, as for a file that is read.
const ANSWER_BYTES: usize = 256 * 1024;
/// A file with a longer line is passed over: a line is held in memory, whole.
const LINE_BYTES: usize = 16 * 1024 * 1024;
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
    // One more than wanted, so as to know whether there are more.
    let mut search = Search::new(matcher, wanted + 1, deadline);
    for path in files(workspace.root(), &start, deadline) {
        if !search.goes_on() {
            break;
        }
        if glob.matched(&path, false).is_ignore() {
            continue;
        }
        // Through the workspace: a folder may have become a symlink since it was listed. What cannot be opened is
        // passed over, as ripgrep does with a message that nobody would read here.
        if let Ok(file) = workspace.entry(path.as_str()) {
            search.file(&path, file);
        }
    }
    let timed_out = Instant::now() > deadline;
    let mut matches = search.matches;
    let truncated = timed_out || search.bytes > ANSWER_BYTES || matches.len() > wanted;
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
fn files(root: &Utf8Path, start: &Utf8Path, deadline: Instant) -> impl Iterator<Item = Utf8PathBuf> {
    let (base, wanted) = (root.to_owned(), start.to_owned());
    let walk: Walk = WalkBuilder::new(root)
        .parents(false)
        .git_global(false)
        .require_git(false)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(move |entry| {
            let below = entry.path().strip_prefix(&base).ok().and_then(Utf8Path::from_path);
            // Folders without a single file take their time as well.
            Instant::now() < deadline
                && below.is_some_and(|path| path.starts_with(&wanted) || wanted.starts_with(path))
        })
        .build();
    let root = root.to_owned();
    walk.filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_some_and(|kind| kind.is_file()))
        .filter_map(move |entry| {
            Some(Utf8PathBuf::from_path_buf(entry.into_path()).ok()?.strip_prefix(&root).ok()?.to_owned())
        })
}

/// A search over many files, with bounds that hold within each of them, too.
struct Search {
    searcher: Searcher,
    matcher: RegexMatcher,
    matches: Vec<Match>,
    enough: usize,
    bytes: usize,
    deadline: Instant,
}

impl Search {
    fn new(matcher: RegexMatcher, enough: usize, deadline: Instant) -> Self {
        let mut builder = SearcherBuilder::new();
        builder.binary_detection(BinaryDetection::quit(0)).heap_limit(Some(LINE_BYTES));
        Self { searcher: builder.build(), matcher, matches: Vec::new(), enough, bytes: 0, deadline }
    }

    fn goes_on(&self) -> bool {
        self.matches.len() < self.enough && self.bytes <= ANSWER_BYTES && Instant::now() < self.deadline
    }

    fn file(&mut self, path: &Utf8Path, file: impl Read) {
        let Self { searcher, matcher, matches, enough, bytes, deadline } = self;
        let sink = Lossy(|line, text| {
            let text: String = text.trim_end().chars().take(LINE_CHARS).collect();
            *bytes += path.as_str().len() + text.len();
            matches.push(Match { path: path.to_string(), line, text });
            Ok(matches.len() < *enough && *bytes <= ANSWER_BYTES)
        });
        // What cannot be read to its end gives what it has given.
        searcher.search_reader(&*matcher, Until { file, deadline: *deadline }, sink).ok();
    }
}

/// A file that ends with an error when the time is over: most of a large one goes by without a match to stop at.
struct Until<F> {
    file: F,
    deadline: Instant,
}

impl<F: Read> Read for Until<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same line for ever.
    struct Endless;

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.iter_mut().zip(b"abcdefg\n".iter().cycle()).for_each(|(to, from)| *to = *from);
            Ok(buffer.len() - buffer.len() % 8)
        }
    }

    fn search(pattern: &str, deadline: Duration) -> Search {
        let matcher = RegexMatcherBuilder::new().line_terminator(Some(b'\n')).build(pattern).unwrap();
        Search::new(matcher, 1_000_000, Instant::now() + deadline)
    }

    #[test]
    fn a_file_without_an_end_ends_at_the_deadline() {
        let mut search = search("nothing", Duration::from_millis(20));
        search.file("endless".into(), Endless);
        assert!(search.matches.is_empty() && !search.goes_on());
    }

    #[test]
    fn a_file_full_of_matches_ends_at_the_bound_of_an_answer() {
        let mut search = search("abc", TIME);
        search.file("endless".into(), Endless);
        assert!(search.bytes > ANSWER_BYTES && search.bytes < ANSWER_BYTES + LINE_CHARS, "{}", search.bytes);
        assert!(!search.goes_on());
    }

    #[test]
    fn a_line_without_an_end_is_passed_over() {
        let mut search = search("abc", TIME);
        search.file("zeros".into(), io::repeat(b'a').take(4 * LINE_BYTES as u64));
        search.file("next".into(), &b"abc\n"[..]);
        assert_eq!(search.matches.len(), 1);
    }
}
