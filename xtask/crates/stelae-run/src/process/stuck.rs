//! Processes in uninterruptible sleep (state D): no signal wakes them, and SIGKILL ends them only when the kernel lets them go
//! on. They wait for a disk, a file server, a driver, or in a frozen cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{kernel_bytes, kernel_text};

/// SIGKILL in the bit masks of `/proc/PID/status`.
const KILL: u64 = 1 << 8;

/// Where in the kernel a thread of the process waits uninterruptibly; none if no thread does.
pub(super) fn wait_channel(pid: i32) -> Option<String> {
    let thread = threads(pid).into_iter().find(|thread| is_uninterruptible(thread))?;
    // A kernel that hides it says `0`, or refuses.
    let channel = kernel_text(thread.join("wchan")).unwrap_or_default();
    let hidden = matches!(channel.trim(), "" | "0");
    Some(if hidden { "a place that the kernel does not tell".to_owned() } else { channel.trim().to_owned() })
}

/// Whether the process has been sent SIGKILL, and cannot die of it yet. To wait for it, or to signal it again, changes nothing.
pub(super) fn is_killed_but_stuck(pid: i32) -> bool {
    threads(pid).iter().any(|thread| is_uninterruptible(thread) && is_killed(thread))
}

/// Whether the process has given back its memory, and is there only because the kernel has not finished with it.
pub(crate) fn is_exiting(pid: i32) -> bool {
    let status = kernel_bytes(format!("/proc/{pid}/status")).unwrap_or_default();
    // A process that has memory has this line; only kernel threads have none, and none of those is ours.
    !status.is_empty() && !status.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"VmSize:"))
}

fn threads(pid: i32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn is_uninterruptible(thread: &Path) -> bool {
    let stat = kernel_bytes(thread.join("stat")).unwrap_or_default();
    // The name may hold anything, and is not always text.
    let state = stat.iter().rposition(|&byte| byte == b')').and_then(|end| stat.get(end + 2));
    state == Some(&b'D')
}

fn is_killed(thread: &Path) -> bool {
    let status = kernel_bytes(thread.join("status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let pending = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    pending.fold(0, |all, mask| all | mask) & KILL != 0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_is_neither_asleep_nor_killed() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(!threads(us).is_empty());
        assert!(!is_killed_but_stuck(us) && !is_exiting(us));
        assert_eq!(wait_channel(i32::MAX), None);
    }
}
