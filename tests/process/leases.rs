//! Address leases between real processes: never two holders, free at once when all are gone, and not before.
//!
//! The holders are this same test program, started once more; what they do there is in the bodies of the tests.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use stelae_model::Failure;
use stelae_run::ports::AddressLease;
use stelae_run::process::Family;

use crate::support::{Sandbox, isolated, until, until_within};

/// Set in a holder: the name of its log.
const HOLDER: &str = "STELAE_TEST_HOLDER";

/// What a holder was started as.
fn role() -> Option<String> {
    std::env::var(HOLDER).ok()
}

fn start_holder(test: &str, role: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(HOLDER, role)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn leases(sandbox: &Sandbox) -> Utf8PathBuf {
    sandbox.path("leases")
}

/// Every lease that can be had: each of another address, until all are leased, and not until something else is the matter.
fn all_that_are_free(folder: &Utf8Path) -> Vec<AddressLease> {
    let (mut all, mut addresses) = (Vec::new(), BTreeSet::new());
    loop {
        match AddressLease::take(folder) {
            Ok(lease) => {
                assert!(addresses.insert(lease.address()), "{} was leased twice", lease.address());
                all.push(lease);
            }
            Err(failure) => {
                assert_eq!((failure.kind.as_str(), failure.why.len()), ("no-address", 1), "{failure}");
                return all;
            }
        }
    }
}

fn refused(folder: &Utf8Path, address: IpAddr) -> Failure {
    let failure = AddressLease::retake(folder, address).unwrap_err();
    assert_eq!((failure.exit_code.number(), failure.kind.as_str()), (40, "address-leased"), "{failure}");
    failure
}

const COMPETITORS: usize = 16;
const ACQUISITIONS: usize = 200;
/// A race is some thousand leases and sixty processes, on a machine that has other work.
const RACE: Duration = Duration::from_secs(300);
/// How often each competitor is killed, at places that nobody chose.
const KILLS: usize = 3;

#[test]
fn sixteen_with_the_whole_pool_never_share() {
    race("leases::sixteen_with_the_whole_pool_never_share", None);
}

#[test]
fn sixteen_with_six_addresses_never_share() {
    race("leases::sixteen_with_six_addresses_never_share", Some(6));
}

fn race(test: &str, addresses: Option<usize>) {
    isolated(test, |sandbox| {
        if let Some(log) = role() {
            return compete(sandbox, &sandbox.path(&log));
        }
        let folder = leases(sandbox);
        fs::create_dir(sandbox.path("proof")).unwrap();
        let mut ours = all_that_are_free(&folder);
        let pool = ours.len();
        ours.truncate(pool - addresses.unwrap_or(pool));
        let mut random = Random::new();
        let mut competitors: Vec<_> =
            (0..COMPETITORS).map(|number| Competitor::start(test, sandbox, number, &mut random)).collect();
        let mut kills = 0;
        until_within(RACE, "the end of the race", || {
            kills += competitors.iter_mut().map(|one| usize::from(one.look(test))).sum::<usize>();
            competitors.iter().all(|one| one.over)
        });
        drop(ours);
        assert_eq!(all_that_are_free(&folder).len(), pool, "leases are lost");
        report(test, &competitors, kills);
    });
}

/// One slot of the race: a process, and after its kill the next one, until enough leases have been had.
struct Competitor {
    name: String,
    log: Utf8PathBuf,
    process: Child,
    /// It is killed when it has had so many leases, the last of these first.
    kill_at: Vec<usize>,
    killed: bool,
    over: bool,
}

impl Competitor {
    fn start(test: &str, sandbox: &Sandbox, number: usize, random: &mut Random) -> Self {
        let name = format!("competitor-{number}");
        let mut kill_at: Vec<_> = (0..KILLS).map(|_| random.below(ACQUISITIONS)).collect();
        kill_at.sort_unstable_by(|one, other| other.cmp(one));
        let (log, process) = (sandbox.path(&name), start_holder(test, &name));
        Self { name, log, process, kill_at, killed: false, over: false }
    }

    fn had(&self) -> Vec<String> {
        fs::read_to_string(&self.log).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Kills it when its time has come, or sees how it ended. True for a kill.
    fn look(&mut self, test: &str) -> bool {
        if self.over {
            return false;
        }
        if let Some(status) = self.process.try_wait().unwrap() {
            assert!(status.success() || self.killed, "{}: {status}", self.name);
            self.over = status.success();
            if !self.over {
                (self.process, self.killed) = (start_holder(test, &self.name), false);
            }
            return false;
        }
        let due = !self.killed && self.kill_at.last().is_some_and(|&at| self.had().len() >= at);
        if due {
            self.kill_at.pop();
            self.process.kill().unwrap();
            self.killed = true;
        }
        due
    }
}

/// Has leases, one after the other, and proves each: a second lock, of another kind, that nobody else can have.
///
/// It is a record lock, because of what a kill does: the kernel drops a dying process's record locks before it closes
/// the files for good, which is what frees a lease. A socket on the address could be there a little longer than the lease.
fn compete(sandbox: &Sandbox, path: &Utf8Path) {
    let folder = leases(sandbox);
    let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
    let had = fs::read_to_string(path).unwrap().lines().count();
    for _ in had..ACQUISITIONS {
        let (lease, took) = await_lease(&folder);
        let proof = File::create(sandbox.path("proof").join(lease.address().to_string())).unwrap();
        fcntl_lock(&proof, FlockOperation::NonBlockingLockExclusive)
            .unwrap_or_else(|error| panic!("{} has two live holders: {error}", lease.address()));
        // In one piece: a kill between a number and its line break would make one line of two.
        log.write_all(format!("{}\n", took.as_nanos()).as_bytes()).unwrap();
        // Others are let in while it is held.
        (0..10).for_each(|_| thread::yield_now());
        drop(proof);
        drop(lease);
    }
}

fn await_lease(folder: &Utf8Path) -> (AddressLease, Duration) {
    let mut had = None;
    until_within(RACE, "an address", || {
        let begun = Instant::now();
        match AddressLease::take(folder) {
            Ok(lease) => had = Some((lease, begun.elapsed())),
            Err(failure) => assert_eq!(failure.kind, "no-address", "{failure}"),
        }
        had.is_some()
    });
    had.unwrap()
}

#[allow(clippy::print_stdout, reason = "what was measured is for people")]
fn report(test: &str, competitors: &[Competitor], kills: usize) {
    let lines = competitors.iter().flat_map(Competitor::had);
    let mut nanos: Vec<u64> = lines.map(|line| line.parse().unwrap()).collect();
    nanos.sort_unstable();
    let at = |percent: usize| Duration::from_nanos(nanos[nanos.len() * percent / 100]);
    assert!(nanos.len() >= COMPETITORS * ACQUISITIONS && kills > 0, "{} leases, {kills} kills", nanos.len());
    println!("measured: {test}: {} leases, {kills} kills, p50 {:?}, p99 {:?}", nanos.len(), at(50), at(99));
}

/// Enough of it to kill at places that nobody chose (xorshift).
struct Random(u64);

impl Random {
    #[allow(clippy::print_stdout, reason = "a failure can be looked into with it")]
    fn new() -> Self {
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 20
            | u64::from(std::process::id());
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        for (left, shift) in [(true, 13), (false, 7), (true, 17)] {
            self.0 ^= if left { self.0 << shift } else { self.0 >> shift };
        }
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// Leases, starts what `before` starts, says which address it has, and stays.
fn hold(sandbox: &Sandbox, before: impl FnOnce()) -> ! {
    let lease = AddressLease::take(&leases(sandbox)).unwrap();
    before();
    let (draft, path) = (sandbox.path("address.new"), sandbox.path("address"));
    fs::write(&draft, lease.address().to_string()).unwrap();
    fs::rename(draft, path).unwrap();
    loop {
        thread::park();
    }
}

fn await_address(sandbox: &Sandbox) -> IpAddr {
    let path = sandbox.path("address");
    until("the holder's lease", || path.exists());
    fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn a_killed_holder_frees_its_lease_at_once() {
    let test = "leases::a_killed_holder_frees_its_lease_at_once";
    isolated(test, |sandbox| {
        if role().is_some() {
            hold(sandbox, || ());
        }
        let mut holder = start_holder(test, "holder");
        let address = await_address(sandbox);
        let failure = refused(&leases(sandbox), address);
        assert!(failure.to_string().contains(&format!("pid {} has it: ", holder.id())), "{failure}");
        holder.kill().unwrap();
        holder.wait().unwrap();
        // Not after a while: now.
        assert_eq!(AddressLease::retake(&leases(sandbox), address).unwrap().address(), address);
    });
}

#[test]
fn a_lease_is_not_free_while_anything_that_its_holder_left_behind_lives() {
    let test = "leases::a_lease_is_not_free_while_anything_that_its_holder_left_behind_lives";
    isolated(test, |sandbox| {
        if role().is_some() {
            hold(sandbox, || {
                let script = "steps = [{ fork = 'setsid' }, { fork = 'double-fork' }, { say = 'up' }]";
                let service = sandbox.start("service", script);
                sandbox.await_children("service", 2);
                fs::write(sandbox.path("service.pid"), service.pid().to_string()).unwrap();
            });
        }
        // Orphans fall to us, so that we can wait for their end.
        let _family = Family::enter().unwrap();
        let mut holder = start_holder(test, "holder");
        let (folder, address) = (leases(sandbox), await_address(sandbox));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let pids = ["service.pid", "service.children"]
            .map(|name| fs::read_to_string(sandbox.path(name)).unwrap())
            .join("\n");
        let pids: Vec<i32> = pids.lines().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3, "{pids:?}");
        for (gone, &pid) in pids.iter().enumerate() {
            let text = refused(&folder, address).to_string();
            for left in &pids[gone..] {
                assert!(text.contains(&format!("pid {left} has it: ")), "{left}: {text}");
            }
            let pid = Pid::from_raw(pid).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            waitpid(Some(pid), WaitOptions::empty()).unwrap();
        }
        assert_eq!(AddressLease::retake(&folder, address).unwrap().address(), address);
    });
}

#[test]
fn the_one_that_comes_free_is_found() {
    isolated("leases::the_one_that_comes_free_is_found", |sandbox| {
        let folder = leases(sandbox);
        let mut all = all_that_are_free(&folder);
        let free = all.swap_remove(77).address();
        assert_eq!(AddressLease::take(&folder).unwrap().address(), free);
    });
}
