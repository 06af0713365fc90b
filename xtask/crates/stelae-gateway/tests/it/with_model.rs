//! A program with a model around it: what it reaches, what is said about it, and that nothing of it stays.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread;

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stelae_model::model_record::{ModelRequest, read_model_requests};
use stelae_model::room::{RoomReport, Walls};
use stelae_run::process::tree;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{GATEWAY, PATIENCE, eventually, gone, kill};
use crate::watched::{NOBODY, mark, marked, nobody, running};

/// With which walls a program is run here.
const BOTH: [&[&str]; 2] = [&[], &["--no-route"]];

/// What the shell does to ask an HTTP server on this machine for `$2`, and to say what it answers.
const GET: &str = r#"
get() {
    exec 3<>"/dev/tcp/$1" || return 9
    printf 'GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' "$2" >&3
    cat <&3
}
"#;

/// A folder for one run, and the socket of its model.
struct Bench {
    folder: TempDir,
    address: SocketAddr,
    listener: Option<TcpListener>,
    /// What with-model is started by.
    before: Vec<String>,
    program: PathBuf,
}

/// What was said, and how it ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        Self::playing(&json!({"calls": []}))
    }

    fn playing(script: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, folder) = (listener.local_addr().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join("script.json"), script.to_string()).unwrap();
        Self { folder, address, listener: Some(listener), before: Vec::new(), program: GATEWAY.into() }
    }

    /// `with-model` around a script of bash.
    fn command(&mut self, walls: &[&str], script: &str) -> Command {
        let program = ["bash", "-c", &format!("{GET}\n{script}")].map(str::to_owned);
        self.around(walls, &program)
    }

    /// `with-model` around a program. It gets its socket once.
    fn around(&mut self, walls: &[&str], program: &[String]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$@" 3<&0 </dev/null"#, "sh"]).args(&self.before);
        command.arg(&self.program).args(["with-model", "--listen", &self.address.to_string()]);
        let file = |name| self.folder.path().join(name);
        command.arg("--script").arg(file("script.json")).arg("--record").arg(file("record.jsonl"));
        command.arg("--report").arg(file("report.json")).args(walls).arg("--").args(program);
        command.stdin(OwnedFd::from(self.listener.take().unwrap())).env("LISTEN_FDS", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run(&mut self, walls: &[&str], script: &str) -> Ended {
        ended(self.command(walls, script).spawn().unwrap()).await
    }

    fn report(&self) -> RoomReport {
        let path = self.folder.path().join("report.json");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    fn record(&self) -> Vec<ModelRequest> {
        let path = self.folder.path().join("record.jsonl");
        let path = Utf8Path::from_path(&path).unwrap();
        read_model_requests(path, &fs::read_to_string(path).unwrap()).unwrap()
    }

    fn model(&self) -> String {
        slashed(self.address)
    }
}

async fn ended(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("an end").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// As bash names an address.
fn slashed(address: SocketAddr) -> String {
    format!("{}/{}", address.ip(), address.port())
}

/// Somebody who answers every connection with a word, for as long as the test runs.
fn answering(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 64];
            let length = stream.read(&mut asked).unwrap_or(0);
            stream.write_all(&[b"you said ", &asked[..length]].concat()).ok();
        }
    });
    address
}

/// Whether this machine lets us make network namespaces. Where it does not, that is what the other tests see.
fn namespaces() -> bool {
    let mut unshare = std::process::Command::new("/usr/bin/unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-current-user"]);
    }
    let allowed = unshare.args(["--net", "--", "/bin/true"]).stderr(Stdio::null()).status();
    let allowed = allowed.is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("skipped: no network namespaces on this machine");
    }
    allowed
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this process has become the program.
fn is_sleep(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
}

/// The process that runs the program.
fn inside(with_model: i32) -> i32 {
    let below = tree::descendants(with_model);
    let children: Vec<i32> = below.iter().filter(|row| row.parent == with_model).map(|row| row.pid).collect();
    assert_eq!(children.len(), 1, "{below:?}");
    children[0]
}

fn pid(child: &Child) -> i32 {
    child.id().unwrap().try_into().unwrap()
}

#[tokio::test]
async fn the_model_and_what_is_let_in_are_reached_at_the_same_address_and_nobody_else_is() {
    if !namespaces() {
        return;
    }
    let (let_in, kept_out) = (answering("127.0.0.2:0"), answering("127.0.0.1:0"));
    let mut bench = Bench::new();
    let script = format!(
        "get {} /__stub/state; exec 4<>/dev/tcp/{}; echo hello >&4; cat <&4; exec 5<>/dev/tcp/{}",
        bench.model(),
        slashed(let_in),
        slashed(kept_out)
    );
    let ended = bench.run(&["--no-route", "--reach", &let_in.to_string()], &script).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains(r#"{"requests":0,"called":[],"faults":[]}"#), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("you said hello\n"), "{}", ended.stdout);
    assert!(ended.stderr.contains("Connection refused"), "{}", ended.stderr);
    let report = bench.report();
    assert_eq!((report.isolation, report.why.as_deref()), (Walls::NetworkNamespace, None));
    assert!(!report.attempts.any(), "{report:?}");
    assert_eq!((report.attempts.no_route, report.attempts.lookups), (Some(0), Some(0)));
}

#[tokio::test]
async fn what_is_let_in_may_be_an_address_of_the_other_family() {
    if !namespaces() || TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let let_in = answering("[::1]:0");
    let mut bench = Bench::new();
    let script = format!("exec 4<>/dev/tcp/::1/{}; echo hello >&4; cat <&4", let_in.port());
    let ended = bench.run(&["--no-route", "--reach", &let_in.to_string()], &script).await;
    assert_eq!(
        (ended.status.code(), ended.stdout.as_str()),
        (Some(0), "you said hello\n"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_large_body_comes_through_whole_and_both_ends_of_it_are_seen() {
    if !namespaces() {
        return;
    }
    let mut bench = Bench::new();
    let script = format!(
        r#"body='{{"stream":true,"input":[],"tools":[],"x":"'$(head -c 3000000 /dev/zero | tr '\0' x)'"}}'
        exec 3<>/dev/tcp/{}
        printf 'POST /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %s\r\n\r\n' ${{#body}} >&3
        printf %s "$body" >&3
        cat <&3"#,
        bench.model()
    );
    let ended = bench.run(&["--no-route"], &script).await;
    assert!(ended.stdout.contains("response.completed"), "{} {}", ended.stdout, ended.stderr);
    assert_eq!(bench.record()[0].body["x"].as_str().unwrap().len(), 3_000_000);
}

#[tokio::test]
async fn who_stands_behind_an_address_and_is_gone_breaks_off() {
    if !namespaces() {
        return;
    }
    let nobody_there = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bench = Bench::new();
    let script = format!("exec 4<>/dev/tcp/{}; cat <&4", slashed(nobody_there));
    let ended = bench.run(&["--no-route", "--reach", &nobody_there.to_string()], &script).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("Connection reset"), "{}", ended.stderr);
}

#[tokio::test]
async fn every_attempt_to_go_elsewhere_fails_at_once_and_is_counted() {
    if !namespaces() {
        return;
    }
    let cases = [
        ("exec 4<>/dev/tcp/192.0.2.1/443", 1, 0),
        ("exec 4<>/dev/udp/192.0.2.53/53", 1, 0),
        ("exec 4<>/dev/tcp/192.0.2.1/443; exec 4<>/dev/tcp/192.0.2.2/80", 2, 0),
        ("echo question >/dev/udp/127.0.0.53/53; exit 1", 0, 1),
    ];
    for (script, no_route, lookups) in cases {
        let mut bench = Bench::new();
        let ended = bench.run(&["--no-route"], script).await;
        assert_eq!(ended.status.code(), Some(1), "{script}: {}", ended.stderr);
        let attempts = bench.report().attempts;
        assert_eq!((attempts.no_route, attempts.lookups), (Some(no_route), Some(lookups)), "{script}");
        assert!(attempts.any() && attempts.named.is_empty());
    }
}

#[tokio::test]
async fn an_attempt_over_the_other_family_is_counted_too() {
    if !namespaces() || TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let mut bench = Bench::new();
    let ended = bench.run(&["--no-route"], "exec 4<>/dev/tcp/2001:db8::1/443").await;
    assert_eq!(
        (ended.status.code(), bench.report().attempts.no_route),
        (Some(1), Some(1)),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn what_a_proxy_variable_sends_to_the_model_is_named_without_what_nobody_should_read() {
    for walls in BOTH {
        if !walls.is_empty() && !namespaces() {
            continue;
        }
        let mut bench = Bench::new();
        let ask = |line: &str| {
            format!(
                r"exec 3<>/dev/tcp/{}; printf '{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3; cat <&3 >/dev/null;",
                bench.model()
            )
        };
        let lines = [
            "CONNECT api.openai.invalid:443",
            "GET http://name:password@updates.invalid/x",
            "CONNECT api.openai.invalid:443",
        ];
        let script: String = lines.iter().map(|line| ask(line)).collect();
        let ended = bench.run(walls, &script).await;
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        let attempts = bench.report().attempts;
        assert_eq!(attempts.named, ["api.openai.invalid:443", "updates.invalid:80"]);
        assert!(attempts.any());
        let outside: Vec<_> = bench.record().into_iter().map(|request| request.outside.unwrap()).collect();
        assert_eq!(outside, ["api.openai.invalid:443", "updates.invalid:80", "api.openai.invalid:443"]);
        let text = fs::read_to_string(bench.folder.path().join("record.jsonl")).unwrap();
        assert!(!text.contains("password"), "{text}");
    }
}

#[tokio::test]
async fn its_exit_code_is_ours() {
    for walls in BOTH {
        for (script, code) in [
            ("exit 0", 0),
            ("exit 3", 3),
            ("kill -KILL $$", 137),
            ("kill -TERM $$", 143),
            ("kill -KILL 0", 137),
        ] {
            let mut bench = Bench::new();
            let ended = bench.run(walls, script).await;
            assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(code), ""), "{script}");
            assert_eq!(bench.report().exit_code.map(i32::from), Some(code));
        }
    }
}

#[tokio::test]
async fn without_a_namespace_the_report_says_what_it_is_worth() {
    let mut bench = Bench::new();
    let script = format!("get {} /__stub/state", bench.model());
    let ended = bench.run(&[], &script).await;
    assert!(ended.stdout.contains(r#"{"requests":0"#), "{}", ended.stdout);
    let report = bench.report();
    assert_eq!(report.isolation, Walls::Settings);
    assert_eq!(report.why.unwrap(), "nobody asked for more than settings (--no-route)");
    assert_eq!((report.attempts.no_route, report.attempts.lookups), (None, None), "nobody counts");
}

#[tokio::test]
async fn where_no_namespace_can_be_made_it_goes_on_with_settings_alone() {
    if !is_root() || !namespaces() {
        eprintln!("skipped: only root can give up making namespaces");
        return;
    }
    for (right, why) in [
        ("-sys_admin", "unshare: unshare failed: Operation not permitted"),
        ("-net_admin", "loopback cannot be raised: Operation not permitted (os error 1)"),
    ] {
        let mut bench = Bench::new();
        let bounds = format!("--bounding-set={right}");
        bench.before = ["setpriv", &bounds, "--inh-caps=-all", "--"].map(str::to_owned).to_vec();
        let script = format!("get {} /__stub/state; exit 4", bench.model());
        let ended = bench.run(&["--no-route"], &script).await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(4), ""));
        assert!(ended.stdout.contains(r#"{"requests":0"#), "{}", ended.stdout);
        let report = bench.report();
        assert_eq!((report.isolation, report.attempts.no_route), (Walls::Settings, None));
        assert_eq!(report.why.unwrap(), why);
    }
}

#[tokio::test]
async fn who_is_not_root_can_do_the_same_and_stays_who_they_are() {
    if !is_root() {
        eprintln!(
            "skipped: only root can become somebody else, and everybody else is tested by the other tests"
        );
        return;
    }
    let mut bench = Bench::new();
    // Where this program lies may be readable for nobody else.
    let program = bench.folder.path().join("stelae-gateway");
    fs::copy(GATEWAY, &program).unwrap();
    fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o777)).unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let probe = std::process::Command::new(nobody[0])
        .args(&nobody[1..])
        .args(["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--", "/bin/true"])
        .status();
    if !probe.unwrap().success() {
        eprintln!("skipped: nobody but root makes namespaces on this machine");
        return;
    }
    bench.before = nobody.map(str::to_owned).to_vec();
    bench.program = program;
    let capabilities = "grep -cE '^Cap(Eff|Prm|Inh|Amb):\\s0000000000000000$' /proc/self/status";
    let script = format!(
        "get {} /__stub/state; echo; id -u; {capabilities}; exec 4<>/dev/tcp/192.0.2.1/443",
        bench.model()
    );
    let mut command = bench.command(&["--no-route"], &script);
    let ended = ended(command.current_dir("/").spawn().unwrap()).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stdout.contains(r#"{"requests":0"#), "{}", ended.stdout);
    assert!(ended.stdout.ends_with("\n65534\n4\n"), "{}", ended.stdout);
    let report = bench.report();
    assert_eq!((report.isolation, report.attempts.no_route), (Walls::NetworkNamespace, Some(1)));
}

/// Also while somebody else still holds the socket that was passed, as this test does.
#[tokio::test]
async fn a_model_that_is_dead_refuses_connections() {
    for walls in BOTH {
        let mut bench = Bench::playing(&json!({"calls": [], "misbehave": {"how": "dead"}}));
        let script = format!("get {} /__stub/state", bench.model());
        let ended = bench.run(walls, &script).await;
        assert_eq!(ended.status.code(), Some(9), "{}", ended.stderr);
        assert!(ended.stderr.contains("Connection refused"), "{}", ended.stderr);
        assert_eq!((bench.record(), bench.report().exit_code), (vec![], Some(9)));
    }
}

#[tokio::test]
async fn it_reads_nothing_and_has_our_environment() {
    for walls in BOTH {
        let mut bench = Bench::new();
        let mut command = bench.command(
            walls,
            "cat; echo $HTTPS_PROXY; ls -l /proc/self/fd | grep -c socket:; pwd; env | grep LISTEN_FDS",
        );
        command.env("HTTPS_PROXY", "http://127.0.0.1:1").current_dir("/usr");
        let ended = ended(command.spawn().unwrap()).await;
        assert_eq!(ended.stdout, "http://127.0.0.1:1\n0\n/usr\n", "{}", ended.stderr);
    }
}

#[tokio::test]
async fn what_it_leaves_behind_goes_with_it() {
    for walls in BOTH {
        let (mut bench, mark) = (Bench::new(), mark());
        let sleep = format!("sleep 1000.{mark}");
        let script = format!(
            "(setsid {sleep} &); (env -i setsid bash -c \"trap '' TERM; {sleep}; {sleep}\" &); {sleep} & \
            until [ $(pgrep -cf '^sleep 1000.{mark}') = 3 ]; do :; done; exit 5"
        );
        let ended = bench.run(walls, &script).await;
        assert_eq!((ended.status.code(), marked(&mark)), (Some(5), NOBODY.to_vec()), "{}", ended.stderr);
        let mut files: Vec<_> =
            bench.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["record.jsonl", "report.json", "script.json"]);
    }
}

/// One that does not want to end, nor what it starts. So many processes have the mark in their command line, with-model and
/// the half inside among them.
fn stubborn(mark: &str) -> (String, usize) {
    let sleep = format!("sleep 1000.{mark}");
    (format!("trap '' TERM INT; (setsid {sleep} &); (env -i setsid {sleep} &); while :; do {sleep}; done"), 6)
}

#[tokio::test]
async fn sigkill_of_with_model_leaves_nobody() {
    for walls in BOTH {
        let (mut bench, mark) = (Bench::new(), mark());
        let (script, count) = stubborn(&mark);
        let mut child = bench.command(walls, &script).spawn().unwrap();
        running(&mark, count).await;
        child.kill().await.unwrap();
        nobody(&mark).await;
        assert!(!bench.folder.path().join("report.json").exists());
    }
}

#[tokio::test]
async fn sigkill_of_the_half_inside_leaves_nobody_and_is_told() {
    for walls in BOTH {
        let (mut bench, mark) = (Bench::new(), mark());
        let (script, count) = stubborn(&mark);
        let child = bench.command(walls, &script).spawn().unwrap();
        running(&mark, count).await;
        kill(inside(pid(&child)));
        let ended = ended(child).await;
        assert_eq!((ended.status.code(), marked(&mark)), (Some(10), NOBODY.to_vec()), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("error: the half that ran the program was killed by somebody else\n"),
            "{}",
            ended.stderr
        );
        let report = bench.report();
        assert_eq!((report.exit_code, report.attempts.no_route), (None, None));
    }
}

#[tokio::test]
async fn both_killed_at_once_leave_no_program() {
    for walls in BOTH {
        let (mut bench, mark) = (Bench::new(), mark());
        let program = ["sleep".to_owned(), format!("1000.{mark}")];
        let mut child = bench.around(walls, &program).spawn().unwrap();
        let all = running(&mark, 3).await;
        // Until then it is `setpriv`, which has not been bound to anybody's death.
        eventually("the program itself runs", async || all.iter().copied().find(|&pid| is_sleep(pid))).await;
        let (outer, inside) = (pid(&child), inside(pid(&child)));
        // Stopped first: neither sees the other one die.
        for half in [inside, outer] {
            kill_process(Pid::from_raw(half).unwrap(), Signal::STOP).unwrap();
        }
        kill(inside);
        kill(outer);
        child.wait().await.unwrap();
        for pid in all {
            gone(pid).await;
        }
    }
}

#[tokio::test]
async fn a_signal_ends_all_of_it() {
    for walls in BOTH {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let (mut bench, mark) = (Bench::new(), mark());
            let script = format!("trap 'exit 7' TERM; sleep 1000.{mark} & wait");
            let child = bench.command(walls, &script).spawn().unwrap();
            running(&mark, 4).await;
            kill_process(Pid::from_raw(pid(&child)).unwrap(), signal).unwrap();
            let ended = ended(child).await;
            assert_eq!(
                (ended.status.code(), marked(&mark)),
                (Some(code), NOBODY.to_vec()),
                "{}",
                ended.stderr
            );
            assert!(ended.stderr.contains("error: the program was interrupted by SIG"), "{}", ended.stderr);
            assert_eq!(bench.report().exit_code, Some(7), "it was asked, and answered in its own way");
        }
    }
}

#[tokio::test]
async fn who_does_not_listen_to_the_signal_is_killed() {
    for walls in BOTH {
        let (mut bench, mark) = (Bench::new(), mark());
        let (script, count) = stubborn(&mark);
        let child = bench.command(walls, &script).spawn().unwrap();
        running(&mark, count).await;
        kill_process(Pid::from_raw(pid(&child)).unwrap(), Signal::TERM).unwrap();
        let ended = ended(child).await;
        assert_eq!((ended.status.code(), marked(&mark)), (Some(143), NOBODY.to_vec()), "{}", ended.stderr);
        assert_eq!(bench.report().exit_code, Some(137));
    }
}

#[tokio::test]
async fn what_is_known_to_be_wrong_beforehand_is_told_and_nothing_is_started() {
    let cases: [(&[&str], &str, i32, &str); 6] = [
        (&[], "/no/such/program", 40, "there is no such program"),
        (&[], "no-such-program-anywhere", 40, "there is no such program"),
        (&[], "/etc/passwd", 40, "there is no such program"),
        (&["--no-route", "--reach", "192.0.2.1:80"], "true", 2, "192.0.2.1:80 is not a port on loopback"),
        (&["--no-route", "--reach", "127.0.0.1:0"], "true", 2, "127.0.0.1:0 is not a port on loopback"),
        (&["--reach", "127.0.0.1:9"], "true", 2, "--no-route"),
    ];
    for (walls, program, code, said) in cases {
        let mut bench = Bench::new();
        let ended = ended(bench.around(walls, &[program.to_owned()]).spawn().unwrap()).await;
        assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
        assert!(!bench.folder.path().join("report.json").exists() && ended.status.signal().is_none());
    }
    let mut bench = Bench::new();
    let twice = bench.address.to_string();
    let ended = bench.run(&["--no-route", "--reach", &twice], "exit 0").await;
    assert!(
        ended.status.code() == Some(2) && ended.stderr.contains("one is given twice"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_report_of_somebody_else_is_not_taken_for_this_one() {
    let mut bench = Bench::new();
    let report = bench.folder.path().join("report.json");
    fs::write(&report, "an old one").unwrap();
    let ended = bench.run(&[], &format!("test ! -e {}", report.display())).await;
    assert_eq!((ended.status.code(), bench.report().exit_code), (Some(0), Some(0)), "{}", ended.stderr);
}

#[tokio::test]
async fn the_half_inside_is_nobody_elses_to_start() {
    for args in [["inside", "--watched=1", "--", "true"], ["inside", "--watched=-1", "--", "true"]] {
        let mut command = Command::new(GATEWAY);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = ended(command.spawn().unwrap()).await;
        assert!(
            ended.status.code() == Some(2) && ended.stderr.contains("nobody watches"),
            "{}",
            ended.stderr
        );
    }
}
