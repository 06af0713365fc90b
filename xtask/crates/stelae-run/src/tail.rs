//! The end of a log, for the failure of whatever wrote it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use camino::Utf8Path;

/// How many lines a failure quotes.
const LINES: usize = 20;
/// No more is read: a line can be very long.
const BYTES: u64 = 64 * 1024;

/// The last 20 lines; none when the log cannot be read, because then there is a worse failure to tell.
pub(crate) fn tail(path: &Utf8Path) -> Vec<String> {
    let bytes = end_of(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|&line| line.to_owned()).collect()
}

fn end_of(path: &Utf8Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES)))?;
    let mut bytes = Vec::new();
    file.take(BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_come_however_long_the_log_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("log");
        let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let lines = tail(&path);
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 99980", "line 99999"));
        assert_eq!(tail(Utf8Path::new("/no/such/log")), Vec::<String>::new());
    }
}
