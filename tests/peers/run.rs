//! Commands with an end.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Only a hang takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end; one that does not end is killed, and fails the test.
pub(crate) fn run(command: &mut Command) -> Ran {
    let folder = stelae_tests::private_folder();
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    command.stdin(Stdio::null());
    command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ran { code: status.code(), stdout: read(&stdout), stderr: read(&stderr) };
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it hangs: {command:?}\n{}\n{}", read(&stdout), read(&stderr));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
