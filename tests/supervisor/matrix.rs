//! Every way in which a service misbehaves, and what comes of it.

use std::net::{TcpListener, TcpStream};

use stelae_tests::until;

use crate::stage::{PATIENT, Service, Stage};

/// One row: a service, and how it has to end.
struct Row {
    service: Service,
    ends: Ends,
}

enum Ends {
    /// It never becomes ready: exit code, kind, and words of the text.
    NotReady(i32, &'static str, &'static [&'static str]),
    /// It becomes ready, and stays until it is told to end.
    Told,
    /// It becomes ready, and fails when its gate is opened.
    Later(i32, &'static str, &'static [&'static str]),
}

impl Row {
    fn play(&self) {
        let stage = Stage::new(&self.service);
        let mut run = stage.start(&self.service);
        let (code, kind, says) = match self.ends {
            Ends::NotReady(code, kind, says) => (code, kind, says),
            Ends::Told => {
                Stage::await_ready(&mut run);
                // What it forked is where it wanted to be.
                let forks = self.service.script.matches("fork = ").count();
                let children = stage.path("script.children");
                until("its children", || {
                    std::fs::read_to_string(&children).unwrap_or_default().lines().count() >= forks
                });
                stage.end_by_term(run);
                return;
            }
            Ends::Later(code, kind, says) => {
                Stage::await_ready(&mut run);
                stage.open_gate();
                (code, kind, says)
            }
        };
        let ending = stage.end(run);
        let failure = ending.failure();
        let text = failure.to_string();
        assert_eq!((ending.code, failure.kind.as_str()), (code, kind), "{text}");
        assert_eq!(i32::from(failure.exit_code.number()), code, "{text}");
        for says in says {
            assert!(text.contains(&says.replace("<ADDRESS>", &stage.address())), "{says}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "colours: {text:?}");
        assert!(failure.hint.is_some(), "no hint: {text}");
    }
}

/// So long a silence is the point: the service is up at once, and what follows never comes. Long enough for the way to
/// where it is silent on a machine that is starved: with a second, one row in a thousand ended on an earlier rung there.
const SILENCE_MS: u64 = 2_500;

const IMPATIENT: Service = Service { idle_ms: SILENCE_MS, ..PATIENT };
const BINDS_ITSELF: Service = Service { socket: "own", ..PATIENT };

fn fails(service: Service, code: i32, kind: &'static str, says: &'static [&'static str]) -> Row {
    Row { service, ends: Ends::NotReady(code, kind, says) }
}

fn told(service: Service) -> Row {
    Row { service, ends: Ends::Told }
}

fn later(service: Service, code: i32, kind: &'static str, says: &'static [&'static str]) -> Row {
    Row { service, ends: Ends::Later(code, kind, says) }
}

macro_rules! rows {
    ($($name:ident: $verdict:ident($base:ident { $($field:ident: $value:expr),+ $(,)? } $(, $rest:expr)*);)+) => {
        $(#[test] fn $name() { $verdict(Service { $($field: $value,)+ ..$base } $(, $rest)*).play(); })+
    };
}

// Binding.
rows! {
    binds_late: told(BINDS_ITSELF {
        script: "steps = [{ sleep-ms = 300 }, { listen = '<ADDRESS>' }]\nanswers = { tools = ['a'] }"
    });
    never_binds: fails(BINDS_ITSELF { idle_ms: SILENCE_MS, script: "steps = [{ say = 'up' }]" },
        31, "idle", &["rung listening: nothing listens on <ADDRESS>", "less "]);
    binds_a_wrong_address: fails(BINDS_ITSELF { idle_ms: SILENCE_MS, script: "steps = [{ listen = '127.0.0.1:0' }]" },
        31, "idle", &["it listens on 127.0.0.1:", " instead"]);
    binds_every_address: told(BINDS_ITSELF {
        script: "steps = [{ listen = '0.0.0.0:<PORT>' }]\nanswers = { tools = ['a'] }"
    });
    says_that_its_address_is_in_use: fails(PATIENT {
        script: "steps = [{ write = \"listen: EADD\\u001B[3\" }, { write = '1mRINUSE <ADDRESS>' }, { exit = 1 }]"
    }, 33, "port-taken", &["<ADDRESS>"]);
}

// Ending before it is ready.
rows! {
    exits_with_0: fails(PATIENT { script: "steps = [{ exit = 0 }]" },
        30, "exited-before-ready", &["gateway ended with exit status 0 before it was ready"]);
    exits_with_1_and_says_why: fails(PATIENT {
        script: "steps = [{ say = 'one' }, { complain = \"\\u001B[31mthe reason\\u001B[0m\" }, { exit = 1 }]"
    }, 30, "exited-before-ready", &["exit status 1", "| one\n", "| the reason\n"]);
    dies_of_a_signal: fails(PATIENT { script: "steps = [{ die = 6 }]" },
        30, "exited-before-ready", &["signal 6 (SIGABRT)"]);
    exits_while_it_is_asked: fails(PATIENT {
        script: "steps = [{ listen = 'passed' }, { await-requests = 1 }, { exit = 3 }]"
    }, 30, "exited-before-ready", &["exit status 3"]);
    dies_instead_of_answering: fails(PATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { die-on = 'tools/list' }"
    }, 30, "exited-before-ready", &["signal 9 (SIGKILL)"]);
    floods_and_exits: fails(PATIENT { script: "steps = [{ flood-mib = 20 }, { say = 'the reason' }, { exit = 1 }]" },
        30, "exited-before-ready", &["| the reason\n"]);
    is_no_script_at_all: fails(PATIENT { script: "steps = [{ fly = 1 }]" },
        30, "exited-before-ready", &["exit status 98", "unknown variant `fly`"]);
}

// Never becoming ready.
rows! {
    is_silent: fails(IMPATIENT { script: "steps = [{ listen = 'passed' }]\nanswers = { hang-on = ['initialize'] }" },
        31, "idle", &["rung initialize: initialize was asked for, no answer yet"]);
    hangs_on_the_list: fails(IMPATIENT { script: "steps = [{ listen = 'passed' }]\nanswers = { hang-on = ['tools/list'] }" },
        31, "idle", &["rung tools: tools/list was asked for, no answer yet"]);
    chatters_for_ever: fails(BINDS_ITSELF { idle_ms: SILENCE_MS, ceiling_ms: 3_000, script: "steps = [{ chatter-every-ms = 5 }]" },
        31, "ceiling", &["ceiling limit", "| still busy\n"]);
    is_not_found_for_ever: fails(IMPATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { not-found-until = 1000000 }"
    }, 31, "idle", &["rung http", "404"]);
    answers_with_an_error: fails(IMPATIENT { script: "steps = [{ listen = 'passed' }]\nanswers = { error-on = ['tools/list'] }" },
        31, "idle", &["error -32603: tools/list is broken"]);
    has_other_tools: fails(IMPATIENT { script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['b'] }" },
        32, "tools-missing", &["tools are missing: a", "there: b"]);
    has_no_tools: fails(IMPATIENT { script: "steps = [{ listen = 'passed' }]" },
        32, "tools-missing", &["tools are missing: a", "there: none"]);
    fails_its_canary: fails(IMPATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'], failing-calls = true }"
    }, 32, "canary-failed", &["\"a\" was called"]);
    answers_its_canary_with_something_else: fails(IMPATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'], says = '{}' }"
    }, 32, "canary-failed", &["was answered with something else", "got \"{}\""]);
    outlasts_the_budget: fails(PATIENT { budget_s: "0.7", script: "steps = [{ chatter-every-ms = 5 }]" },
        124, "budget-exhausted", &["before gateway was ready"]);
    ignores_term_and_is_silent: fails(BINDS_ITSELF {
        idle_ms: SILENCE_MS, script: "on-term = 'ignore'\nsteps = [{ fork = 'plain' }]"
    }, 31, "idle", &["nothing listens"]);
}

// Leaving somebody behind, and ending.
rows! {
    leaves_a_child: fails(PATIENT { script: "on-term = 'ignore'\nsteps = [{ fork = 'plain' }, { exit = 1 }]" },
        30, "exited-before-ready", &[]);
    leaves_a_group: fails(PATIENT { script: "on-term = 'ignore'\nsteps = [{ fork = 'own-group' }, { exit = 1 }]" },
        30, "exited-before-ready", &[]);
    leaves_a_session: fails(PATIENT { script: "on-term = 'ignore'\nsteps = [{ fork = 'setsid' }, { exit = 1 }]" },
        30, "exited-before-ready", &[]);
    leaves_a_daemon: fails(PATIENT { script: "on-term = 'ignore'\nsteps = [{ fork = 'double-fork' }, { exit = 1 }]" },
        30, "exited-before-ready", &[]);
    leaves_a_daemon_without_an_environment: fails(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ fork = 'cleared-env' }, { exit = 1 }]"
    }, 30, "exited-before-ready", &[]);
    leaves_a_relay: fails(PATIENT { script: "steps = [{ fork = 'relay' }, { exit = 1 }]" },
        30, "exited-before-ready", &[]);
    leaves_somebody_who_holds_its_output: fails(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ fork = 'hold-output' }, { exit = 1 }]"
    }, 30, "exited-before-ready", &["exit status 1"]);
}

// Becoming ready in its own way, and being told to end.
rows! {
    is_good: told(PATIENT { script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'] }" });
    warms_up: told(PATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['a'], not-found-until = 5, empty-lists = 3 }"
    });
    streams_page_by_page: told(PATIENT {
        script: "steps = [{ listen = 'passed' }]\nanswers = { tools = ['b', 'a'], paged = true, stream = true }"
    });
    chatters_and_is_ready: told(PATIENT {
        script: "steps = [{ chatter-every-ms = 1 }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    writes_half_a_line_and_is_ready: told(PATIENT {
        script: "steps = [{ write = \"half a \\u001B[3\" }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    ignores_term: told(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_child: told(PATIENT {
        script: "steps = [{ fork = 'plain' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_group: told(PATIENT {
        script: "steps = [{ fork = 'own-group' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_session: told(PATIENT {
        script: "steps = [{ fork = 'setsid' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_daemon: told(PATIENT {
        script: "steps = [{ fork = 'double-fork' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_daemon_that_ignores_term: told(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ fork = 'double-fork' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_daemon_without_an_environment: told(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ fork = 'cleared-env' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_a_relay: told(PATIENT {
        script: "steps = [{ fork = 'relay' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_while_it_dies: told(PATIENT {
        script: "on-term = 'fork-and-die'\nsteps = [{ fork = 'setsid' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
    forks_somebody_who_holds_its_output: told(PATIENT {
        script: "on-term = 'ignore'\nsteps = [{ fork = 'hold-output' }, { listen = 'passed' }]\nanswers = { tools = ['a'] }"
    });
}

// Failing when it was ready.
rows! {
    crashes_when_it_was_ready: later(PATIENT {
        script: "steps = [{ listen = 'passed' }, { await-file = '<GATE>' }, { complain = 'the reason' }, { die = 6 }]\nanswers = { tools = ['a'] }"
    }, 10, "service-died", &["signal 6 (SIGABRT)", "| the reason"]);
    ends_well_when_it_was_ready: later(PATIENT {
        script: "steps = [{ fork = 'double-fork' }, { listen = 'passed' }, { await-file = '<GATE>' }, { exit = 0 }]\nanswers = { tools = ['a'] }"
    }, 10, "service-died", &["exit status 0"]);
}

/// The stranger is this test: it is told, and left alone.
#[test]
fn finds_a_stranger_on_its_port() {
    let service = Service { script: "steps = [{ listen = 'passed' }]", ..PATIENT };
    let stage = Stage::new(&service);
    let stranger = TcpListener::bind(stage.address()).unwrap();
    let ending = stage.end_beside_a_stranger(stage.start(&service));
    let text = ending.failure().to_string();
    assert_eq!((ending.code, ending.failure().kind.as_str()), (33, "port-taken"), "{text}");
    assert!(text.contains(&format!("pid {}: ", std::process::id())), "{text}");
    assert!(TcpStream::connect(stranger.local_addr().unwrap()).is_ok());
    assert_eq!(ending.snapshot.processes, []);
}
