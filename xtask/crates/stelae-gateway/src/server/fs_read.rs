//! `workspace_fs_read`: reads a file or lists a folder of the workspace.

use std::fs::File;
use std::io::{BufRead, BufReader};

use rmcp::model::{JsonObject, Tool, ToolAnnotations, object};
use rustix::fs::{Dir, FileType};
use serde::Deserialize;
use serde_json::json;

use super::workspace::Workspace;
use super::{Answer, Told, arguments};

/// The tool's name.
pub(super) const NAME: &str = "workspace_fs_read";

/// What one answer may hold: more than this floods a model, and the client's memory of the conversation.
const ANSWER_BYTES: usize = 256 * 1024;
/// A larger file is not looked at: skipping to its last line would read all of it.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// What one listing may hold.
const ENTRIES: usize = 2000;

const OPERATIONS: &[&str] = &["read_file", "list_directory"];
const ARGUMENTS: &[&str] = &["operation", "path", "offset", "limit"];

#[derive(Deserialize)]
struct Request {
    operation: String,
    path: String,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// The tool as it is listed.
pub(super) fn tool() -> Tool {
    let number = json!({"type": "integer", "minimum": 0});
    let with = |mut schema: serde_json::Value, description: &str| {
        schema["description"] = description.into();
        schema
    };
    let schema = json!({
        "type": "object",
        "properties": {
            "operation": {"type": "string", "enum": OPERATIONS},
            "path": {"type": "string", "description": "Relative to the root of the workspace; \".\" is the root"},
            "offset": with(number.clone(), "read_file: how many lines to skip (default 0)"),
            "limit": with(number, "read_file: how many lines to give at most (default all)"),
        },
        "required": ["operation", "path"],
        "additionalProperties": false,
    });
    let annotations = ToolAnnotations::with_title("Read the workspace")
        .read_only(true)
        .destructive(false)
        .idempotent(true)
        .open_world(false);
    let description = "Reads a text file, or lists a folder, of the workspace. Never leaves the workspace";
    Tool::new(NAME, description, object(schema)).with_annotations(annotations)
}

/// Carries a call out.
pub(super) fn call(workspace: &Workspace, given: JsonObject) -> Told {
    let request: Request = arguments::read(given, ARGUMENTS)?;
    match arguments::one_of("operation", &request.operation, OPERATIONS)? {
        "read_file" => read_file(workspace, &request),
        _ => list_directory(workspace, &request.path),
    }
}

fn read_file(workspace: &Workspace, request: &Request) -> Told {
    let path = &request.path;
    let file = workspace.entry(path)?;
    let metadata = file.metadata().map_err(|error| format!("{path:?} cannot be read: {error}"))?;
    if metadata.is_dir() {
        return Err(format!("{path:?} is a folder: use the operation \"list_directory\""));
    }
    if !metadata.is_file() {
        return Err(format!("{path:?} is neither a file nor a folder"));
    }
    if metadata.len() > FILE_BYTES {
        return Err(format!(
            "{path:?} has {} bytes; files of more than {FILE_BYTES} are not read",
            metadata.len()
        ));
    }
    let text = lines(file, request.offset, request.limit.unwrap_or(usize::MAX)).map_err(|fault| match fault {
        Fault::Io(error) => format!("{path:?} cannot be read: {error}"),
        Fault::Binary => format!("{path:?} is not a text file ({} bytes)", metadata.len()),
        Fault::TooLong => format!(
            "{path:?} has {} bytes, and an answer holds {ANSWER_BYTES}: ask for a part with `offset` and `limit`",
            metadata.len()
        ),
    })?;
    Ok(Answer { text, data: None })
}

enum Fault {
    Io(std::io::Error),
    Binary,
    TooLong,
}

fn lines(file: File, offset: usize, limit: usize) -> Result<String, Fault> {
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    let mut line = Vec::new();
    for number in 0..offset.saturating_add(limit) {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(Fault::Io)? == 0 {
            break;
        }
        if line.contains(&0) {
            return Err(Fault::Binary);
        }
        if number >= offset {
            text.push_str(std::str::from_utf8(&line).map_err(|_| Fault::Binary)?);
        }
        if text.len() > ANSWER_BYTES {
            return Err(Fault::TooLong);
        }
    }
    Ok(text)
}

fn list_directory(workspace: &Workspace, path: &str) -> Told {
    let unreadable = |error: &dyn std::fmt::Display| format!("{path:?} cannot be listed: {error}");
    let folder = workspace.entry(path)?;
    if !folder.metadata().map_err(|error| unreadable(&error))?.is_dir() {
        return Err(format!("{path:?} is not a folder: use the operation \"read_file\""));
    }
    let mut entries = Vec::new();
    for entry in Dir::new(folder).map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type() {
            _ if name == "." || name == ".." => {}
            FileType::Directory => entries.push(name + "/"),
            FileType::Symlink => entries.push(name + "@"),
            _ => entries.push(name),
        }
    }
    entries.sort();
    let found = entries.len();
    entries.truncate(ENTRIES);
    let mut text = entries.join("\n");
    if found > ENTRIES {
        text.push_str(&format!("\n… and {} more", found - ENTRIES));
    }
    Ok(Answer { text, data: Some(json!({"entries": entries, "truncated": found > ENTRIES})) })
}
