//! How it ends, who goes with it, and what is refused before it begins.

use super::*;

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
