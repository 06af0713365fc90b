//! What differs between platforms: the process table, and how one process is addressed.
//!
//! Linux has all of it. Elsewhere only the processes that we started ourselves are known, each standing for its whole
//! process group; what leaves its group there is not found. That is said in `docs/ARCHITECTURE.md`, too.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(super) use linux::*;

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(super) use other::*;
