//! How much memory a gateway takes, without its servers.

use std::fs;

use camino::Utf8Path;

use crate::files::kernel_text;
use crate::process::tree;

/// The resident memory of a process and of what it started, less whatever runs `server`, in KiB. `None` where the platform
/// does not tell, or when the process is gone.
pub(super) fn resident_kib(pid: i32, server: &Utf8Path) -> Option<u64> {
    let mut sum = of(pid)?;
    for row in tree::descendants(pid) {
        let runs = fs::read_link(format!("/proc/{}/exe", row.pid)).ok();
        if runs.as_deref() != Some(server.as_std_path()) {
            // One that ended meanwhile takes none.
            sum += of(row.pid).unwrap_or(0);
        }
    }
    Some(sum)
}

fn of(pid: i32) -> Option<u64> {
    let status = kernel_text(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_some_and_one_that_is_not_there_none() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(resident_kib(us, "/nowhere".into()) > Some(100));
        assert_eq!(resident_kib(i32::MAX, "/nowhere".into()), None);
    }
}
