//! The gateway's account of its servers: what it saw of each of them start, become ready and die, one JSON object a line.
//! `stelae-gateway serve --calls` writes it beside the account of the calls; a smoke run reads it and decides.
//!
//! Lines are never taken back: a server that died and was removed afterwards has still died. Each line has its number, so that
//! a lost line is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::failure::shortened;
use crate::{ExitCode, Failure};

/// Characters of a reason or a log line that are kept.
const LONGEST_TEXT: usize = 500;
/// So many causes does a failure name at the most.
const MOST_NAMED: usize = 10;

/// Where the account of the servers is, from the path of the account of the calls: `calls.jsonl` → `calls.servers.jsonl`.
pub fn beside(calls: &Utf8Path) -> Utf8PathBuf {
    calls.with_extension("servers.jsonl")
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerEvent {
    /// Its place in the file, counted from 0 over all starts of the gateway.
    pub number: u64,
    /// The server.
    pub server: String,
    /// Whether readiness of the gateway waits for it, as its entry said then.
    pub required: bool,
    /// How many deaths its entry allowed then.
    pub allowed_deaths: u32,
    /// What happened.
    pub happened: Happened,
}

/// What happened to a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Happened {
    /// It was configured; the gateway starts it, or connects to it.
    Configured,
    /// It is initialized, and its tools are listed.
    Ready,
    /// It could not be started or reached. No process and no session was lost.
    Unavailable(String),
    /// Its process ended without being told to, or its session was lost, or the gateway ended it because it did not answer.
    Died(Death),
}

/// One death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Death {
    /// How it ended, as far as that is known: `exited (exit status: 3; stderr ended with "…")`.
    pub why: String,
    /// Milliseconds for which it had been ready; absent: it never was in this start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_ms: Option<u64>,
    /// The last lines that it wrote to stderr, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

impl Death {
    /// A death; what is too long for a line is cut.
    pub fn new(why: &str, ready_ms: Option<u64>, log: &[String]) -> Self {
        let log = log.iter().map(|line| shortened(line, LONGEST_TEXT)).collect();
        Self { why: shortened(why, LONGEST_TEXT), ready_ms, log }
    }

    fn told(&self) -> String {
        match self.ready_ms {
            Some(ms) => format!("{}, {ms} ms after it was ready", self.why),
            None => format!("{}, before it was ready", self.why),
        }
    }
}

impl ServerEvent {
    /// Its line, with the end of the line.
    ///
    /// # Errors
    /// What serde_json says; these types give it no reason.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self).map(|line| line + "\n")
    }
}

/// The answer of the builtin gateway to `GET /-/servers`, for which it asks each server that is ready for a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServersAnswer {
    /// So many lines has the account, over all starts of the gateway; absent when none is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Servers that are ready and did not answer, with the reason.
    #[serde(default)]
    pub silent: BTreeMap<String, String>,
    /// How often each server that died has died since the gateway was started, removed servers included.
    #[serde(default)]
    pub deaths: BTreeMap<String, u32>,
}

/// Reads an account. `path` is what messages call it. A last line without its end is none: its writer was killed over it.
///
/// # Errors
/// Exit 11, `servers-unreadable`, with path and line: no such line, or one that is not in its place.
pub fn read_events(path: &str, text: &str) -> Result<Vec<ServerEvent>, Failure> {
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let read = lines.zip(0_u64..).map(|(line, place)| {
        let unreadable = |why: &dyn fmt::Display| unreadable(&format!("{path}:{}", place + 1), why);
        let event: ServerEvent = serde_json::from_str(line).map_err(|error| unreadable(&error))?;
        match event.number == place {
            true => Ok(event),
            false => {
                Err(unreadable(&format_args!("it is line {place}, and says that it is {}", event.number)))
            }
        }
    });
    read.collect()
}

/// The account cannot be relied on.
pub fn unreadable(place: &str, why: &dyn fmt::Display) -> Failure {
    let what = "the gateway's account of its servers cannot be read";
    Failure::new(ExitCode::ExpectationNotMet, "servers-unreadable", what)
        .on(place)
        .because(why.to_string())
        .hint("its gateway says in its log if it could not write it")
}

/// One server, over the whole account.
#[derive(Debug, Default)]
struct Course<'a> {
    required: bool,
    allowed: u32,
    was_ready: bool,
    unavailable: Option<&'a str>,
    deaths: Vec<&'a Death>,
}

impl Course<'_> {
    /// An optional server that never was ready is left out of the stack: that is a warning.
    fn never_came(&self) -> bool {
        !self.required && !self.was_ready
    }

    fn died_too_often(&self) -> bool {
        !self.never_came() && self.deaths.len() as u64 > u64::from(self.allowed)
    }
}

/// Decides what the account means for a run. Gives what has to be said in its verdict: each optional server that never was
/// ready, and each death that was allowed.
///
/// # Errors
/// Exit 10, `service-died`: a server died more often than its entry allows.
pub fn judge_servers(events: &[ServerEvent]) -> Result<Vec<String>, Failure> {
    let mut courses: BTreeMap<&str, Course<'_>> = BTreeMap::new();
    for event in events {
        let is_new = !courses.contains_key(event.server.as_str());
        let course = courses.entry(&event.server).or_default();
        // Of several entries under one name the strictest counts.
        course.required |= event.required;
        course.allowed = if is_new { event.allowed_deaths } else { course.allowed.min(event.allowed_deaths) };
        match &event.happened {
            Happened::Configured => {}
            Happened::Ready => course.was_ready = true,
            Happened::Unavailable(why) => course.unavailable = Some(why),
            Happened::Died(death) => course.deaths.push(death),
        }
    }
    let dead: Vec<_> = courses.iter().filter(|(_, course)| course.died_too_often()).collect();
    match dead.as_slice() {
        [] => Ok(courses.iter().filter_map(|(name, course)| warning(name, course)).collect()),
        dead => Err(died(dead)),
    }
}

/// Servers that were ready, have died, and have not become ready since. One that was removed meanwhile is among them.
pub fn away(events: &[ServerEvent]) -> BTreeSet<&str> {
    let mut came = BTreeSet::new();
    let mut away = BTreeSet::new();
    for event in events {
        let name = event.server.as_str();
        match event.happened {
            Happened::Ready => {
                came.insert(name);
                away.remove(name);
            }
            Happened::Died(_) if came.contains(name) => {
                away.insert(name);
            }
            Happened::Died(_) | Happened::Configured | Happened::Unavailable(_) => {}
        }
    }
    away
}

fn warning(name: &str, course: &Course<'_>) -> Option<String> {
    if course.never_came() {
        let why = course.deaths.last().map(|death| death.why.as_str()).or(course.unavailable);
        let why = why.unwrap_or("it was still being started");
        return Some(format!("server {name} is not required, and never was ready: {why}"));
    }
    let last = course.deaths.last()?;
    let (times, allowed) = (times(course.deaths.len()), course.allowed);
    Some(format!("server {name} died {times}, which its allowed_deaths = {allowed} permits: {}", last.told()))
}

fn died(dead: &[(&&str, &Course<'_>)]) -> Failure {
    let count: usize = dead.iter().map(|(_, course)| course.deaths.len()).sum();
    let what = match dead {
        [(name, course)] => format!("server {name} died {}", times(course.deaths.len())),
        several => format!("{} servers died, {} in all", several.len(), times(count)),
    };
    let mut failure = Failure::new(ExitCode::StepFailed, "service-died", what);
    for (name, course) in dead.iter().take(MOST_NAMED) {
        failure = failure.on(format!("server {name}"));
        if let [first, .., last] = course.deaths.as_slice() {
            failure = failure
                .because(format!("{name}, the first time: {}", first.told()))
                .because(format!("{name}, the last time: {}", last.told()));
        } else if let [only] = course.deaths.as_slice() {
            failure = failure.because(format!("{name}: {}", only.told()));
        }
        if course.allowed > 0 {
            failure = failure.because(format!("{name}: allowed_deaths = {} permits fewer", course.allowed));
        }
    }
    let log = dead.iter().find_map(|(_, course)| course.deaths.iter().find(|death| !death.log.is_empty()));
    failure.log_tail(log.map(|death| death.log.clone()).unwrap_or_default())
}

fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(server: &str, required: bool, allowed_deaths: u32, happened: Happened) -> ServerEvent {
        ServerEvent { number: 0, server: server.to_owned(), required, allowed_deaths, happened }
    }

    fn death(why: &str, ready_ms: Option<u64>) -> Happened {
        Happened::Died(Death::new(why, ready_ms, &[format!("log of {why}")]))
    }

    #[test]
    fn a_death_is_a_failure_that_says_how_often_and_how() {
        let failure = judge_servers(&[
            event("a", true, 0, Happened::Ready),
            event("a", true, 0, death("exited (exit status: 3)", Some(12))),
            event("a", true, 0, Happened::Ready),
            event("a", true, 0, death("exited (signal: 9 (SIGKILL))", None)),
            event("b", true, 0, Happened::Ready),
        ])
        .unwrap_err();
        assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::StepFailed, "service-died"));
        assert_eq!(
            (failure.what.as_str(), &failure.on[..]),
            ("server a died 2 times", &["server a".to_owned()][..])
        );
        assert_eq!(
            failure.why,
            [
                "a, the first time: exited (exit status: 3), 12 ms after it was ready",
                "a, the last time: exited (signal: 9 (SIGKILL)), before it was ready"
            ]
        );
        assert_eq!(failure.log_tail, ["log of exited (exit status: 3)"]);
    }

    #[test]
    fn allowed_deaths_are_a_warning_and_one_more_is_a_failure() {
        let mut events =
            vec![event("a", false, 1, Happened::Ready), event("a", false, 1, death("x", Some(1)))];
        let warnings = judge_servers(&events).unwrap();
        assert_eq!(
            warnings,
            ["server a died once, which its allowed_deaths = 1 permits: x, 1 ms after it was ready"]
        );
        events.push(event("a", false, 1, death("y", Some(1))));
        let failure = judge_servers(&events).unwrap_err();
        assert!(failure.why.iter().any(|why| why == "a: allowed_deaths = 1 permits fewer"), "{failure}");
    }

    #[test]
    fn away_is_who_has_died_and_is_not_ready_again() {
        let events = [
            event("back", true, 1, Happened::Ready),
            event("gone", true, 1, Happened::Ready),
            event("never", false, 1, death("x", None)),
            event("back", true, 1, death("x", Some(1))),
            event("gone", true, 1, death("x", Some(1))),
            event("back", true, 1, Happened::Ready),
            event("gone", true, 1, Happened::Configured),
        ];
        assert_eq!(away(&events[..4]), BTreeSet::from(["back"]));
        assert_eq!(away(&events), BTreeSet::from(["gone"]));
    }

    #[test]
    fn an_entry_that_comes_later_allows_no_death_that_was_before_it() {
        let events = [
            event("a", true, 0, Happened::Ready),
            event("a", true, 0, death("x", Some(1))),
            event("a", true, 9, Happened::Configured),
        ];
        assert!(judge_servers(&events).is_err());
        let events =
            [event("a", false, 0, Happened::Configured), event("a", true, 0, death("required then", None))];
        assert!(judge_servers(&events).is_err());
    }

    #[test]
    fn an_optional_server_that_never_came_is_named_and_one_that_came_must_not_die() {
        let never = [
            event("a", false, 0, Happened::Configured),
            event("a", false, 0, death("exited (exit status: 4)", None)),
            event("b", false, 0, Happened::Unavailable("no such program".to_owned())),
            event("c", false, 0, Happened::Configured),
            event("d", true, 0, Happened::Configured),
        ];
        assert_eq!(
            judge_servers(&never).unwrap(),
            [
                "server a is not required, and never was ready: exited (exit status: 4)",
                "server b is not required, and never was ready: no such program",
                "server c is not required, and never was ready: it was still being started",
            ]
        );
        let came = [never[1].clone(), event("a", false, 0, Happened::Ready)];
        assert_eq!(judge_servers(&came).unwrap_err().what, "server a died once");
    }

    #[test]
    fn lines_are_read_back_and_one_that_is_missing_is_seen() {
        let mut events = [
            event("a", true, 0, Happened::Configured),
            event("a", true, 2, death("x", Some(1))),
            event("a", true, 2, Happened::Unavailable("y".to_owned())),
        ];
        (1..).zip(&mut events[1..]).for_each(|(number, event)| event.number = number);
        let text: String = events.iter().map(|event| event.to_line().unwrap()).collect();
        assert_eq!(read_events("s", &text).unwrap(), events);
        assert_eq!(read_events("s", &(text.clone() + "{\"numb")).unwrap(), events);
        let without: String = text.split_inclusive('\n').skip(1).collect();
        let failure = read_events("s", &without).unwrap_err();
        assert_eq!((failure.kind.as_str(), &failure.on[..]), ("servers-unreadable", &["s:1".to_owned()][..]));
        assert!(read_events("s", &text.replace("\"server\"", "\"other\"")).is_err());
    }

    #[test]
    fn the_account_of_the_servers_lies_beside_that_of_the_calls() {
        assert_eq!(beside("/r/calls.jsonl".into()), "/r/calls.servers.jsonl");
    }
}
