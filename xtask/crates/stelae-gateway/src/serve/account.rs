//! The file of [`super::calls`]: whole lines, whoever was killed over the last one.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};

use camino::Utf8Path;
use stelae_model::calls::{GatewayCall, is_account};
use stelae_run::files::open_append;

/// The file.
#[derive(Debug)]
pub(super) struct Account {
    file: File,
    /// Whether the last line may have no end.
    torn: bool,
}

impl Account {
    /// Opens it, or makes it; gives the number of the next call, too, which is the one after the last line's.
    ///
    /// # Errors
    /// What the system says; or it is no regular file, or something else is in it.
    pub(super) fn open(path: &Utf8Path) -> io::Result<(Self, u64)> {
        let mut file = open_append(path)?;
        let mut begins = Vec::new();
        (&mut file).take(32).read_to_end(&mut begins)?;
        if !is_account(&begins) {
            return Err(io::Error::other("there is something else in it"));
        }
        let mut account = Self { file, torn: true };
        let next = match account.mend()?.as_slice() {
            [] => 0,
            last => serde_json::from_slice::<GatewayCall>(last)?.number + 1,
        };
        Ok((account, next))
    }

    /// Appends a line, with one write: a reader sees the whole of it, or none of it.
    ///
    /// # Errors
    /// What the system says. What it has written of the line is cut off before the next one.
    pub(super) fn append(&mut self, call: &GatewayCall) -> io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        let line = call.to_line()?;
        // Not `write_all`: what is left of a line is cut off, and not continued.
        self.torn = true;
        let written = self.file.write(line.as_bytes())?;
        if written < line.len() {
            return Err(io::Error::other(format!("{written} of {} bytes were written", line.len())));
        }
        self.torn = false;
        Ok(())
    }

    /// Cuts off what is left of a line; gives the last whole one, or nothing.
    fn mend(&mut self) -> io::Result<Vec<u8>> {
        self.file.rewind()?;
        let mut lines = BufReader::new(&self.file);
        let (mut last, mut line, mut whole) = (Vec::new(), Vec::new(), 0);
        while lines.read_until(b'\n', &mut line)? > 0 {
            if !line.ends_with(b"\n") {
                self.file.set_len(whole)?;
                break;
            }
            whole += line.len() as u64;
            std::mem::swap(&mut last, &mut line);
            line.clear();
        }
        self.torn = false;
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::OpenOptions;
    use std::os::unix::fs::PermissionsExt as _;

    use camino::Utf8PathBuf;
    use stelae_model::calls::read_calls;

    use super::*;

    fn call(number: u64, tool: &str) -> GatewayCall {
        GatewayCall { number, ..GatewayCall::begun(None, tool, None) }
    }

    /// An account of which that is the next number.
    fn open(path: &Utf8Path, expected: u64) -> Account {
        let (account, next) = Account::open(path).unwrap();
        assert_eq!(next, expected);
        account
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
        let mut account = open(&path, 0);
        account.append(&call(0, "first")).unwrap();
        account.append(&call(1, "second")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let whole = fs::read(&path).unwrap();
        // In the middle of a character, too.
        for torn in [&b""[..], b"{", b"{\"number\":2,\"tool\":\"\xc3"] {
            fs::write(&path, [&whole, torn].concat()).unwrap();
            open(&path, 2).append(&call(2, "third")).unwrap();
            assert_eq!(tools(&path), ["first", "second", "third"]);
        }
        fs::write(&path, "{\"numb").unwrap();
        open(&path, 0).append(&call(0, "only")).unwrap();
        assert_eq!(tools(&path), ["only"]);
    }

    #[test]
    fn a_line_that_could_not_be_written_is_cut_off_before_the_next_one() {
        let (_guard, path) = folder();
        let mut account = open(&path, 0);
        account.append(&call(0, "first")).unwrap();
        let good = std::mem::replace(&mut account.file, File::open(&path).unwrap());
        assert!(account.append(&call(1, "lost")).is_err());
        account.file = good;
        (&account.file).write_all(b"{\"number\":1,\"cl").unwrap();
        let whole = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned() + "\n";
        account.append(&call(2, "second")).unwrap();
        let second = call(2, "second").to_line().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole + &second);
    }

    #[test]
    fn a_gateway_goes_on_from_the_last_number_also_where_lines_are_lost() {
        let (_guard, path) = folder();
        open(&path, 0).append(&call(3, "the ones before are lost")).unwrap();
        open(&path, 4).append(&call(6, "and two more")).unwrap();
        open(&path, 7);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"no line of ours\n").unwrap();
        assert!(Account::open(&path).is_err());
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
