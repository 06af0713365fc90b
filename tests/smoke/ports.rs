//! The address and the port of a run: its own, and nobody else's. No run in here builds anything.

use std::fs::{self, File, TryLockError};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use stelae_tests::{Ended, Run, Source, Xtask, runs, until};

/// Runs that wait in `git clone` until the gate is opened: everything that they take hold of, they have by then.
struct Gated {
    source: Source,
    folder: tempfile::TempDir,
}

impl Gated {
    fn new() -> Self {
        let gated = Self { source: Source::of_working_tree(), folder: stelae_tests::private_folder() };
        let script = format!(
            "#!/bin/sh\ncase \" $* \" in *\" clone \"*) until [ -e '{}' ]; do sleep 0.01; done ;; esac\n\
             PATH=${{PATH#*:}} exec git \"$@\"\n",
            gated.path("gate")
        );
        let git = gated.path("git");
        fs::write(&git, script).unwrap();
        fs::set_permissions(git, fs::Permissions::from_mode(0o755)).unwrap();
        gated
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.folder.path()).unwrap().join(name)
    }

    /// A run that clones, and no more.
    fn xtask(&self, args: &[&str]) -> Xtask {
        let args: Vec<&str> =
            ["--format", "json", "smoke", "--until", "clone"].iter().chain(args).copied().collect();
        let path = format!("{}:{}", self.path(""), std::env::var("PATH").unwrap());
        Xtask::new(self.source.path(), &args)
            .env("PATH", &path)
            .env("STELAE_CACHE_HOME", self.path("cache").as_str())
    }

    /// Where the gateways of this many runs will listen, by run.
    fn await_endpoints(&self, count: usize) -> Vec<SocketAddr> {
        let mut found = Vec::new();
        until("the sandboxes", || {
            found = runs(self.source.path()).iter().filter_map(|run| self.endpoint(run)).collect();
            found.len() >= count
        });
        found
    }

    fn endpoint(&self, run: &str) -> Option<SocketAddr> {
        let text = fs::read_to_string(self.source.run_folder(run).join("sandbox.json")).ok()?;
        let sandbox: Value = serde_json::from_str(&text).ok()?;
        let address: IpAddr = sandbox["address"].as_str()?.parse().ok()?;
        Some(SocketAddr::new(address, sandbox["port"].as_u64()?.try_into().ok()?))
    }

    fn open(&self) {
        fs::write(self.path("gate"), "").unwrap();
    }

    /// Takes a lease as another run would, but so that no process that another test starts inherits it.
    fn lease(&self, address: IpAddr) -> Result<File, TryLockError> {
        let file = File::open(self.path("cache/leases").join(address.to_string())).unwrap();
        file.try_lock().map(|()| file)
    }
}

#[test]
fn runs_at_once_have_an_address_each_and_give_it_back() {
    let gated = Gated::new();
    let started: Vec<Run> = (0..3).map(|_| gated.xtask(&["--keep", "never"]).start()).collect();
    let mut addresses: Vec<IpAddr> = gated.await_endpoints(3).iter().map(SocketAddr::ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "{addresses:?}");
    for &address in &addresses {
        assert_ne!(address, IpAddr::from([127, 0, 0, 1]));
        assert!(matches!(gated.lease(address), Err(TryLockError::WouldBlock)), "{address} is free");
    }
    gated.open();
    let ended: Vec<Ended> = started.into_iter().map(Run::wait).collect();
    assert!(ended.iter().all(|ended| ended.code == 0), "{}", ended[0].stderr);
    for address in addresses {
        assert!(gated.lease(address).is_ok(), "{address} is not free");
    }
}

#[test]
fn a_port_that_is_still_listened_on_after_the_teardown_is_a_warning_and_no_failure() {
    let gated = Gated::new();
    let run = gated.xtask(&["--keep", "never"]).start();
    let endpoint = gated.await_endpoints(1)[0];
    // The port is held for a program that binds it like this. We are no process of the run, and stay.
    let _stays = TcpListener::bind(endpoint).unwrap();
    gated.open();
    let ended = run.wait();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let warnings = ended.json()["warnings"].to_string();
    let says = format!("{endpoint} is still listened on after the teardown, by pid {}: ", std::process::id());
    assert!(warnings.contains(&says) && warnings.contains(", since "), "{says}: {warnings}");
}

#[test]
fn a_run_whose_address_another_has_meanwhile_is_not_resumed_until_it_is_free() {
    let gated = Gated::new();
    gated.open();
    let first = gated.xtask(&[]).run();
    assert_eq!(first.code, 0, "{}", first.stderr);
    let run = first.run_id();
    let address = gated.endpoint(&run).unwrap().ip();
    let resume = || gated.xtask(&["--resume", &run, "--from", "clone"]).run();
    let other = gated.lease(address).unwrap();
    let refused = resume();
    assert_eq!(refused.verdict(), (40, "address-leased".to_owned()), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("pid {} has it: ", std::process::id())), "{}", refused.stderr);
    drop(other);
    let ended = resume();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(gated.endpoint(&run).unwrap().ip(), address);
}
