//! The file of [`super::calls`]: whole lines, numbered, whoever was killed over the last one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::Utf8Path;
use stelae_model::calls::{GatewayCall, is_account};

/// The file.
#[derive(Debug)]
pub(super) struct Account {
    file: File,
    /// The number of the next line.
    next: u64,
    /// Whether the last line may have no end.
    torn: bool,
}

impl Account {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// What the system says; or it is no regular file, or something else is in it.
    pub(super) fn open(path: &Utf8Path) -> io::Result<Self> {
        // Opening a pipe would wait for whoever reads it.
        if path.metadata().is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut begins = Vec::new();
        (&mut file).take(32).read_to_end(&mut begins)?;
        if !is_account(&begins) {
            return Err(io::Error::other("there is something else in it"));
        }
        let mut account = Self { file, next: 0, torn: true };
        account.mend()?;
        Ok(account)
    }

    /// Appends a line, with one write: a reader sees the whole of it, or none of it.
    ///
    /// # Errors
    /// What the system says. What it has written of the line is cut off before the next one.
    pub(super) fn append(&mut self, call: GatewayCall) -> io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        let line = GatewayCall { number: self.next, ..call }.to_line()?;
        // Not `write_all`: what is left of a line is cut off, and not continued.
        self.torn = true;
        let written = self.file.write(line.as_bytes())?;
        if written < line.len() {
            return Err(io::Error::other(format!("{written} of {} bytes were written", line.len())));
        }
        self.torn = false;
        self.next += 1;
        Ok(())
    }

    /// Counts the lines, and cuts off what is left of one.
    fn mend(&mut self) -> io::Result<()> {
        self.file.rewind()?;
        let (mut lines, mut whole, mut read) = (0, 0, 0);
        let mut piece = [0; 8192];
        loop {
            let length = self.file.read(&mut piece)?;
            if length == 0 {
                break;
            }
            for byte in &piece[..length] {
                read += 1;
                if *byte == b'\n' {
                    lines += 1;
                    whole = read;
                }
            }
        }
        if whole < read {
            self.file.set_len(whole)?;
        }
        self.next = lines;
        self.torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use camino::Utf8PathBuf;
    use stelae_model::calls::read_calls;

    use super::*;

    fn call(tool: &str) -> GatewayCall {
        GatewayCall::begun(None, tool, None)
    }

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(guard.path().join("calls.jsonl")).unwrap();
        (guard, path)
    }

    fn tools(path: &Utf8Path) -> Vec<String> {
        let calls = read_calls(path.as_str(), &fs::read_to_string(path).unwrap()).unwrap();
        calls.into_iter().map(|call| call.tool).collect()
    }

    #[test]
    fn a_gateway_goes_on_where_the_one_before_it_was_killed() {
        let (_guard, path) = folder();
        let mut account = Account::open(&path).unwrap();
        account.append(call("first")).unwrap();
        account.append(call("second")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = fs::read(&path).unwrap();
        // In the middle of a character, too.
        for torn in [&b""[..], b"{", b"{\"number\":2,\"tool\":\"\xc3"] {
            fs::write(&path, [&whole, torn].concat()).unwrap();
            Account::open(&path).unwrap().append(call("third")).unwrap();
            assert_eq!(tools(&path), ["first", "second", "third"]);
        }
        fs::write(&path, "{\"numb").unwrap();
        Account::open(&path).unwrap().append(call("only")).unwrap();
        assert_eq!(tools(&path), ["only"]);
    }

    #[test]
    fn a_line_that_could_not_be_written_is_cut_off_before_the_next_one() {
        let (_guard, path) = folder();
        let mut account = Account::open(&path).unwrap();
        account.append(call("first")).unwrap();
        let good = std::mem::replace(&mut account.file, File::open(&path).unwrap());
        assert!(account.append(call("lost")).is_err());
        account.file = good;
        (&account.file).write_all(b"{\"number\":1,\"cl").unwrap();
        account.append(call("second")).unwrap();
        assert_eq!(tools(&path), ["first", "second"]);
    }

    #[test]
    fn what_is_something_else_is_not_written_into() {
        let (guard, path) = folder();
        fs::write(&path, "the only copy").unwrap();
        assert_eq!(Account::open(&path).unwrap_err().to_string(), "there is something else in it");
        assert_eq!(fs::read_to_string(&path).unwrap(), "the only copy");
        let folder = Utf8Path::from_path(guard.path()).unwrap();
        assert_eq!(Account::open(folder).unwrap_err().to_string(), "it is not a regular file");
        assert_eq!(Account::open(&folder.join("no/file")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Account::open("/dev/full".into()).is_err());
    }
}
