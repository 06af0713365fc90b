//! A loopback address for each run, so that runs at the same time do not meet on any port.
//!
//! On Linux every address in 127.0.0.0/8 is there without being configured. The pool begins well above 127.0.0.1, where
//! everybody's own services are, above the low numbers that people type by hand, and above 127.0.0.53 and 54, which are
//! the resolver's on many machines. Elsewhere only 127.0.0.1 is there: a run gets that one, and shares it.

use std::fs::{File, TryLockError};
use std::net::{IpAddr, Ipv4Addr};

use camino::Utf8Path;
use rustix::io::{FdFlags, fcntl_setfd};
use stelae_model::{ExitCode, Failure};

use super::Placeholder;
use crate::files::{create_private_dirs, open_lock, random};
use crate::process::tree;

/// The last numbers of the addresses 127.0.0.N that are leased.
const FIRST: u8 = 64;
const LAST: u8 = 254;
/// How many they are.
const COUNT: u64 = (LAST - FIRST) as u64 + 1;

/// An address that nobody else has who leases from the same folder.
///
/// The lease is a lock on a file, and not this value's alone: **every process that is started while it is held inherits
/// it**, because the descriptor stays open across exec. The kernel frees it when the last of them is gone. So it is free
/// at once after a SIGKILL of everybody, and never free while a service of ours, or whatever that left behind in another
/// session, may still listen on the address. Dropping this value only closes our share; it does not unlock.
///
/// Two things it does not do. A program that closes descriptors that it does not know (some daemons, Python for its
/// children) gives its share away, and is covered by the harness only, which holds its own until the teardown is over.
/// And users, or cache homes, that have different folders may get the same address: there, the port has to differ.
#[derive(Debug)]
pub struct AddressLease {
    address: IpAddr,
    // Absent where there is nothing to lease. Held for its lock, and never unlocked: that would free it for all.
    _lock: Option<File>,
}

impl AddressLease {
    /// Leases any address of the pool. It does not wait: an address that is taken is passed over.
    ///
    /// The files in `folder`, one for each address, are empty, and never removed: whoever has one open, and is about to
    /// lock it, would hold a file without a name, and the next one, with a new file of that name, the same address.
    ///
    /// Where the platform has no second loopback address, this is 127.0.0.1, shared with everybody.
    ///
    /// # Errors
    /// Exit 40: `no-address`, all are taken or unusable; `leases-unusable`, there is no folder to lease in.
    pub fn take(folder: &Utf8Path) -> Result<Self, Failure> {
        if !cfg!(target_os = "linux") {
            return Ok(Self::shared(Ipv4Addr::LOCALHOST.into()));
        }
        prepare(folder)?;
        let (mut leased, mut unusable) = (0, Vec::new());
        for address in pool_from(random()) {
            match hold(folder, address) {
                Ok(lease) => return Ok(lease),
                Err(TryLockError::WouldBlock) => leased += 1,
                Err(TryLockError::Error(error)) => unusable.push(format!("{address}: {error}")),
            }
        }
        Err(none_left(folder, leased, &unusable))
    }

    /// Leases the address that an earlier session of a run had.
    ///
    /// One that is not of the pool was never leased: it is shared, as it was.
    ///
    /// # Errors
    /// Exit 40: `address-leased`, with who has it; `leases-unusable`.
    pub fn retake(folder: &Utf8Path, address: IpAddr) -> Result<Self, Failure> {
        let Some(pooled) = pooled(address) else { return Ok(Self::shared(address)) };
        prepare(folder)?;
        hold(folder, pooled).map_err(|error| match error {
            TryLockError::WouldBlock => leased_by_another(folder, pooled),
            TryLockError::Error(error) => unusable(folder).on(pooled.to_string()).because(error.to_string()),
        })
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    fn shared(address: IpAddr) -> Self {
        Self { address, _lock: None }
    }
}

/// The address, if it is one that is leased here.
fn pooled(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V4(address) = address else { return None };
    let [127, 0, 0, FIRST..=LAST] = address.octets() else { return None };
    cfg!(target_os = "linux").then_some(address)
}

/// All addresses, once each, from any of them on: runs that begin at once do not try each other's. (Not from one that a
/// pid says: in namespaces all runs have the same.)
fn pool_from(chance: u64) -> impl Iterator<Item = Ipv4Addr> {
    let start = chance % COUNT;
    let last = move |step: u64| u8::try_from(u64::from(FIRST) + (start + step) % COUNT).unwrap_or(LAST);
    (0..COUNT).map(move |step| Ipv4Addr::new(127, 0, 0, last(step)))
}

fn prepare(folder: &Utf8Path) -> Result<(), Failure> {
    create_private_dirs(folder).map_err(|error| unusable(folder).because(error.to_string()))
}

fn hold(folder: &Utf8Path, address: Ipv4Addr) -> Result<AddressLease, TryLockError> {
    let file = open_lock(folder.join(address.to_string())).map_err(TryLockError::Error)?;
    file.try_lock()?;
    // A machine, or a sandbox, may have fewer loopback addresses than Linux usually has.
    Placeholder::hold(address.into(), 0).map_err(|taken| TryLockError::Error(taken.error))?;
    // Last, so that no child that another thread starts meanwhile keeps what we do not keep ourselves.
    fcntl_setfd(&file, FdFlags::empty()).map_err(|error| TryLockError::Error(error.into()))?;
    Ok(AddressLease { address: address.into(), _lock: Some(file) })
}

fn none_left(folder: &Utf8Path, leased: u32, unusable: &[String]) -> Failure {
    let failure =
        Failure::new(ExitCode::PrerequisiteMissing, "no-address", "no loopback address is left for the run")
            .on(folder.as_str())
            .because(format!("{leased} of {COUNT} are leased by processes that live"));
    match unusable.first() {
        Some(first) => failure
            .because(format!("{} cannot be used; the first: {first}", unusable.len()))
            .hint("make the folder writable, or name another: STELAE_CACHE_HOME=PATH"),
        None => failure.hint("end a run that is not needed any more: cargo xtask runs list"),
    }
}

fn leased_by_another(folder: &Utf8Path, address: Ipv4Addr) -> Failure {
    let failure = Failure::new(
        ExitCode::PrerequisiteMissing,
        "address-leased",
        "the address of the run is leased by somebody else",
    )
    .on(address.to_string());
    let holders = who_has_open(&folder.join(address.to_string())).into_iter();
    holders
        .fold(failure, Failure::because)
        .hint("wait for them to end, or start a new run: cargo xtask smoke")
}

fn unusable(folder: &Utf8Path) -> Failure {
    Failure::new(ExitCode::PrerequisiteMissing, "leases-unusable", "addresses cannot be leased")
        .on(folder.as_str())
        .hint("make the folder writable, or name another: STELAE_CACHE_HOME=PATH")
}

/// The processes that have a file open, other than this one, as far as one may look.
fn who_has_open(path: &Utf8Path) -> Vec<String> {
    let us = i32::try_from(std::process::id()).unwrap_or(0);
    // The kernel names files by their real path.
    let Ok(path) = path.canonicalize() else { return Vec::new() };
    let has_open = |pid: &i32| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        entries.map(|entry| std::fs::read_link(entry.path())).any(|link| link.is_ok_and(|link| link == path))
    };
    let pids = tree::all_pids().into_iter().filter(|&pid| pid != us).filter(has_open);
    pids.map(|pid| format!("pid {pid} has it: {}", tree::command_line(pid).unwrap_or_default())).collect()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, camino::Utf8PathBuf) {
        let guard = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(guard.path()).unwrap().join("cache/leases");
        (guard, path)
    }

    #[test]
    fn every_address_is_visited_once_from_wherever_one_begins() {
        for chance in [0, 1, 190, 191, u64::MAX] {
            let visited: Vec<_> = pool_from(chance).collect();
            assert_eq!(visited.iter().collect::<BTreeSet<_>>().len(), 191, "{chance}");
            assert!(visited.iter().all(|&address| pooled(address.into()).is_some()), "{chance}");
        }
        assert_ne!(pool_from(0).next(), pool_from(1).next());
    }

    #[test]
    fn leases_differ_and_files_are_private() {
        let (_guard, folder) = folder();
        let (one, other) = (AddressLease::take(&folder).unwrap(), AddressLease::take(&folder).unwrap());
        assert_ne!(one.address(), other.address());
        let mode = |path: &Utf8Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&folder.join(one.address().to_string())), 0o600);
    }

    #[test]
    fn a_pool_that_is_all_taken_says_so() {
        let (_guard, folder) = folder();
        let _all: Vec<_> = (0..COUNT).map(|_| AddressLease::take(&folder).unwrap()).collect();
        let none = AddressLease::take(&folder).unwrap_err();
        assert_eq!((none.exit_code, none.kind.as_str()), (ExitCode::PrerequisiteMissing, "no-address"));
        assert!(none.to_string().contains("191 of 191 are leased") && none.hint.is_some(), "{none}");
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let (guard, _) = folder();
        let file = Utf8Path::from_path(guard.path()).unwrap().join("file");
        fs::write(&file, "").unwrap();
        for failure in [
            AddressLease::take(&file.join("leases")).unwrap_err(),
            AddressLease::retake(&file.join("leases"), [127, 0, 0, LAST].into()).unwrap_err(),
        ] {
            assert_eq!((failure.exit_code.number(), failure.kind.as_str()), (40, "leases-unusable"));
        }
    }

    #[test]
    fn what_is_not_of_the_pool_is_shared() {
        let (_guard, folder) = folder();
        for address in ["127.0.0.1", "127.0.0.9", "127.0.0.255", "127.0.1.64", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            let both = [0, 1].map(|_| AddressLease::retake(&folder, address).unwrap());
            assert!(both.iter().all(|lease| lease.address() == address));
        }
        assert!(!folder.exists());
    }
}
