//! Whom the program reaches, and what is told of whom it does not.

use super::*;

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
    let held = held_port();
    let nobody_there = held.address();
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
    if !is_root() {
        return skipped("only root can give up making namespaces");
    }
    if !namespaces() {
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
        return skipped("only root can become another user, and the other tests test that user");
    }
    let mut bench = Bench::new();
    // Where this program lies may be readable for nobody else.
    let program = bench.folder.path().join("stelae-gateway");
    // By a process of its own: another test's child, forked while we write it, would have it open for writing, and nobody
    // could execute it.
    assert!(std::process::Command::new("cp").arg(GATEWAY).arg(&program).status().unwrap().success());
    fs::set_permissions(bench.folder.path(), Permissions::from_mode(0o777)).unwrap();
    // Not 65534: under that number the kernel shows every user that a namespace does not map, and it is mapped to another.
    let user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--"];
    let probe = std::process::Command::new(user[0])
        .args(&user[1..])
        .args(["unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--", "/bin/true"])
        .status();
    if !probe.unwrap().success() {
        return skipped("only root makes namespaces on this machine");
    }
    bench.before = user.map(str::to_owned).to_vec();
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
    assert!(ended.stdout.ends_with("\n12345\n4\n"), "{}", ended.stdout);
    let report = bench.report();
    assert_eq!((report.isolation, report.attempts.no_route), (Walls::NetworkNamespace, Some(1)));
}
