//! What processes have in their environment: also where their memory does not say it any more, or says something else.

use std::fs;
use std::process::Command;

use serde_json::Value;
use stelae_tests::{Ended, Source, Xtask};

const STACK: &str = "config/stack.toml";

/// A server that answers what a gateway asks at its start, after `before`.
fn server(before: &str) -> String {
    format!(
        r#"
import ctypes, json, os, subprocess, sys, threading

def overwrite(byte):
    fields = open("/proc/self/stat").read().rsplit(")")[1].split()
    begin, end = int(fields[47]), int(fields[48])
    with open("/proc/self/mem", "r+b", 0) as memory:
        memory.seek(begin)
        memory.write(bytes([byte]) * (end - begin))

def serve():
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = {{}}
        if message["method"] == "initialize":
            result = {{"protocolVersion": "2025-06-18", "capabilities": {{"tools": {{}}}},
                      "serverInfo": {{"name": "odd", "version": "1"}}}}
        if message["method"] == "tools/list":
            result = {{"tools": []}}
        print(json.dumps({{"jsonrpc": "2.0", "id": message["id"], "result": result}}), flush=True)
    os._exit(0)

{before}
serve()
"#
    )
}

/// Python itself: what PATH has may be a script that sets variables before it starts that.
fn python() -> String {
    let said = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

/// The stack with one more required server, which runs this Python, behind these words.
fn with_server(before: &[&str], program: &str) -> Source {
    let python = python();
    let words: Vec<&str> = before.iter().copied().chain([&*python]).collect();
    let (command, args) = words.split_first().unwrap();
    let source = Source::of_working_tree();
    source.write("odd.py", program);
    let args: Vec<String> =
        args.iter().copied().chain(["<<STELAE_ROOT>>/odd.py"]).map(|word| format!("{word:?}")).collect();
    let text = format!(
        "name = \"odd\"\ndescription = \"odd\"\ntransport = \"stdio\"\ncommand = \"{command}\"\n\
         args = [{}]\nrequired = true\n",
        args.join(", ")
    );
    source.write("config/bundles/core/servers/odd.toml", &text);
    source
}

fn with_service(lines: &str) -> Source {
    let source = Source::of_working_tree();
    source.edit(STACK, "[readiness]\n", &format!("[services.odd]\n{lines}\n[readiness]\n"));
    source
}

fn looked_at(source: &Source) -> Ended {
    let args = ["--format", "json", "smoke", "--until", "structural", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.left(), Vec::<String>::new());
    ended
}

fn report(source: &Source, ended: &Ended) -> Value {
    let path = source.run_folder(&ended.run_id()).join("environment.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn process<'a>(report: &'a Value, label: &str) -> &'a Value {
    report["processes"].as_array().unwrap().iter().find(|one| one["process"] == label).unwrap()
}

fn is_red(source: &Source, kind: &str, parts: &[&str]) {
    let ended = looked_at(source);
    assert_eq!(ended.verdict(), (20, kind.to_owned()), "{}", ended.stderr);
    assert_eq!(ended.json()["failed_step"], "structural");
    for part in parts {
        assert!(ended.stderr.contains(part), "no {part:?} in: {}", ended.stderr);
    }
}

#[test]
fn a_server_that_writes_over_its_environment_is_judged_by_what_it_was_given() {
    for byte in [0, 32] {
        let source = with_server(&[], &server(&format!("overwrite({byte})")));
        let ended = looked_at(&source);
        assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
        let report = report(&source, &ended);
        let odd = process(&report, "server:odd");
        assert_eq!(odd["judged_by"], "start", "{odd}");
        assert!(odd["environment"]["STELAE_ROOT"].as_str().unwrap().starts_with("sha256:"), "{odd}");
        assert_eq!(process(&report, "server:stelae")["judged_by"], "memory");
    }
}

#[test]
fn a_service_that_writes_over_what_it_was_wrongly_given_hides_nothing() {
    // It is ready when it has done so, and not before.
    let script = server("overwrite(0)\nprint('overwritten', flush=True)\nthreading.Event().wait()");
    let service = format!(
        "command = {:?}\nargs = [\"<<STELAE_ROOT>>/odd.py\"]\nready_line = \"overwritten\"\n",
        python()
    );
    let source = with_service(&service);
    source.write("odd.py", &script);
    let ended = looked_at(&source);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(process(&report(&source, &ended), "service:odd")["judged_by"], "start");

    source.write("config/odd.env", "PROXY_HOST=127.0.0.9\n");
    source.edit(STACK, &service, &format!("{service}env_file = \"config/odd.env\"\n"));
    is_red(&source, "environment-differs", &["service:odd (pid ", "PROXY_HOST is \"sha256:", "declared is"]);
}

#[test]
fn a_server_whose_main_thread_has_ended_is_attested_by_its_others() {
    let dies = "threading.Thread(target=serve).start()\nctypes.CDLL(None).pthread_exit(None)";
    let source = with_server(&[], &server(dies));
    let ended = looked_at(&source);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    assert_eq!(process(&report(&source, &ended), "server:odd")["judged_by"], "memory");

    let source = with_server(&["env", "SURPRISE=1"], &server(dies));
    is_red(&source, "environment-differs", &["server:odd (pid ", "SURPRISE is there"]);
}

#[test]
fn what_a_server_starts_is_its_own_affair_whatever_label_that_carries() {
    let starts = "for label in ['server:stelae', 'gateway', 'server:nobody', None]:
    environment = dict(os.environ, PROXY_HOST='127.0.0.9', SURPRISE='1')
    environment.pop('STELAE_PROCESS')
    if label: environment['STELAE_PROCESS'] = label
    subprocess.Popen(['sleep', '600'], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    subprocess.Popen(['sh', '-c', 'setsid sleep 601 & exit'], env=environment, stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL).wait()";
    let source = with_server(&[], &server(starts));
    let ended = looked_at(&source);
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let report = report(&source, &ended);
    let others = report["not_compared"].as_array().unwrap();
    let of = |command: &str| others.iter().filter(|one| one["command"] == command).collect::<Vec<_>>();
    assert_eq!(of("sleep 600").len(), 4, "{report}");
    assert!(of("sleep 600").iter().all(|one| one["started_by"] == "server:odd"), "{report}");
    // What has got away from it belongs to one of the servers; of which one, is not known any more.
    assert_eq!(of("sleep 601").len(), 4, "{report}");
    assert_eq!(report["differences"], Value::Array(vec![]));
}

#[test]
fn a_wrapper_that_takes_the_environment_away_is_found_whatever_comes_after_it() {
    for before in ["", "overwrite(0)"] {
        let source = with_server(&["env", "-i"], &server(before));
        is_red(&source, "environment-differs", &["server:odd (pid ", "HOME is missing"]);
    }
    let source = with_server(&["env", "-u", "STELAE_PROCESS"], &server(""));
    is_red(&source, "environment-differs", &["server:odd (pid ", "STELAE_PROCESS is missing"]);
}

#[test]
fn an_agent_is_held_until_its_environment_was_read() {
    let source = Source::of_working_tree();
    let args = ["--format", "json", "smoke", "--until", "stage:bundle-tools", "--keep", "never"];
    let ended = Xtask::new(source.path(), &args).run();
    assert_eq!(ended.verdict(), (0, String::new()), "{}", ended.stderr);
    let folder = source.run_folder(&ended.run_id());
    let report = fs::read_to_string(folder.join("transcripts/bundle-tools.environment.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["held"], &report["processes"][0]["process"]), (&true.into(), &"agent".into()));
    assert_eq!(ended.left(), Vec::<String>::new());
}
