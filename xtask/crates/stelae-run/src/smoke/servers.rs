//! Whether a server of the stack died while the run looked at it.
//!
//! The builtin gateway counts: it keeps an account of each start, readiness and death, which is read here. Another gateway keeps
//! none, so the processes below it are compared, by pid and start time, each time that the run looks: a server that died and was
//! started again is seen by that, and one that did so twice between two looks is counted once. A gateway that starts its servers
//! anew for each client, or a server behind a URL, shows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stelae_model::env::Variable as _;
use stelae_model::env::declared::STELAE_PROCESS;
use stelae_model::proxy::ServerState;
use stelae_model::server_account::{
    Death, Happened, ServerEvent, ServersAnswer, away, beside, judge_servers, read_events, unreadable,
};
use stelae_model::stack::BUILTIN;
use stelae_model::{ExitCode, Failure};

use super::context::SmokeContext;
use super::state::Restarted;
use super::steps::{check_stack, readiness, stack};
use crate::deadline::Deadline;
use crate::files::{limits, read_untrusted};
use crate::http::Http;
use crate::process::tree;
use crate::tail::tail;

/// The evidence of a run over a foreign gateway.
const SEEN: &str = "servers.json";
/// The label of a server's process begins with this.
const LABEL: &str = "server:";

/// A server that has died and may do so: so long is it waited for. The gateway starts it again after a quarter of a second.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// That no server has died since the stack was started, as far as that was not allowed. What has to be said of them in the
/// verdict is kept until then. One that was allowed to is waited for: what it offers is looked at next.
///
/// # Errors
/// Exit 10, `service-died`; 32, `servers-not-ready`: a server does not answer; 11, `servers-missing`, `servers-unreadable`.
pub(crate) fn check_deaths(cx: &mut SmokeContext, restarted: &Restarted) -> Result<(), Failure> {
    check_stack(cx)?;
    let gateway = cx.log("gateway");
    let (events, judged) = if cx.plan.gateway == BUILTIN {
        let answer = ask(cx)?;
        let events = account(cx, restarted, &answer)?;
        let judged = judge_servers(&events).and_then(|warnings| all_answer(&answer).map(|()| warnings));
        (events, judged)
    } else {
        let events = compare(cx)?;
        let judged = judge_servers(&events);
        (events, judged)
    };
    cx.server_warnings = judged.map_err(|failure| {
        let failure = failure.hint(format!("look at the gateway's log: {gateway}"));
        if failure.log_tail.is_empty() { failure.log_tail(tail(&gateway)) } else { failure }
    })?;
    await_return(cx, &away(&events))
}

/// Waits until none of these servers is being started again. One that does not come back is for the next look to find.
fn await_return(cx: &mut SmokeContext, away: &BTreeSet<&str>) -> Result<(), Failure> {
    let until = cx.deadline.within(BACK_WITHIN);
    while !away.is_empty() && !until.passed() {
        let Some(readiness) = readiness(cx)? else { break };
        // One that was removed is not listed.
        let is_away = |name: &&str| {
            readiness.servers.get(*name).is_some_and(|health| health.state != ServerState::Ready)
        };
        if !away.iter().any(is_away) {
            break;
        }
        cx.interrupt.wait(Duration::from_millis(10));
        cx.interrupt.bail("waiting for a server that is started again")?;
    }
    Ok(())
}

/// How many lines the account has by now: those of an earlier stack are not counted against the next one.
pub(crate) fn lines_before(cx: &SmokeContext) -> usize {
    let path = beside(&cx.place(super::play::CALLS));
    read_untrusted(&path, limits::TRANSCRIPT)
        .map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

fn ask(cx: &mut SmokeContext) -> Result<ServersAnswer, Failure> {
    let url = format!("http://{}/-/servers", stack(cx)?.1.address);
    let (asked, deadline) = (url.clone(), cx.deadline);
    let answer = cx.while_up(move || Http::new().get(&asked, deadline))?;
    let answer = answer.map_err(|error| error.to_string()).and_then(|answer| match answer.status {
        200 => serde_json::from_str(&answer.body).map_err(|error| error.to_string()),
        status => Err(format!("it answered {status}")),
    });
    answer.map_err(|why| {
        if let Some(died) = super::steps::stack_died(cx) {
            return died;
        }
        let what = "the gateway keeps no account of its servers, and cannot say whether one has died";
        Failure::new(ExitCode::ExpectationNotMet, "servers-missing", what)
            .on(url)
            .because(why)
            .hint("what is started as the gateway has to be `stelae-gateway serve` of this commit")
    })
}

/// The lines of this stack, every one of them that the gateway has counted.
fn account(
    cx: &SmokeContext,
    restarted: &Restarted,
    answer: &ServersAnswer,
) -> Result<Vec<ServerEvent>, Failure> {
    let path = beside(restarted.calls.as_deref().unwrap_or(&cx.place(super::play::CALLS)));
    let Some(counted) = answer.events else {
        let what = "the gateway keeps no account of its servers, and cannot say whether one has died";
        return Err(Failure::new(ExitCode::ExpectationNotMet, "servers-missing", what)
            .on(path.to_string())
            .hint("what is started as the gateway has to hand on STELAE_CALLS to `stelae-gateway serve`"));
    };
    let bytes = match read_untrusted(&path, limits::TRANSCRIPT) {
        // A gateway without servers has nothing to write.
        Err(error) if error.kind() == ErrorKind::NotFound && counted == 0 => Vec::new(),
        read => read.map_err(|error| unreadable(path.as_str(), &error))?,
    };
    let mut events = read_events(path.as_str(), &String::from_utf8_lossy(&bytes))?;
    if (events.len() as u64) < counted {
        let why = format!("it has {} lines, and the gateway has counted {counted}", events.len());
        return Err(unreadable(path.as_str(), &why));
    }
    Ok(events.split_off(restarted.server_events_before.min(events.len())))
}

fn all_answer(answer: &ServersAnswer) -> Result<(), Failure> {
    if answer.silent.is_empty() {
        return Ok(());
    }
    let what = "a server that is listed as ready does not answer";
    let failure = Failure::new(ExitCode::ReadyButIncomplete, "servers-not-ready", what);
    Err(answer.silent.iter().fold(failure, |failure, (name, why)| {
        failure.on(format!("server {name}")).because(format!("{name}: {why}"))
    }))
}

/// What was seen of the processes of servers, over all looks.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    schema: u32,
    /// What this can show.
    note: String,
    /// Pid of the supervisor below which they were.
    supervisor: i32,
    looks: u32,
    /// The processes that were there at the last look, by server.
    now: BTreeMap<String, BTreeSet<Process>>,
    /// The processes that were there at one look, and not at the next.
    gone: BTreeMap<String, Vec<Process>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Process {
    pid: i32,
    /// In ticks of the kernel since it booted.
    started: u64,
}

/// Looks at the processes below a foreign gateway, and gives what that shows, as the builtin gateway would have said it.
fn compare(cx: &SmokeContext) -> Result<Vec<ServerEvent>, Failure> {
    let supervisor = cx.stack.as_ref().map_or(0, super::stack::LiveStack::supervisor);
    let kept: Option<Seen> = cx.folder.read_json(SEEN).ok();
    // An earlier stack's processes are gone with it.
    let mut seen = kept.filter(|seen| seen.supervisor == supervisor).unwrap_or_else(|| Seen {
        schema: 1,
        note: "deaths are seen only where a process was there at one look and not at the next".to_owned(),
        supervisor,
        ..Seen::default()
    });
    seen.look(processes_below(supervisor));
    cx.keep_json(SEEN, &seen);
    let proxy = stack(cx)?.1.proxy;
    Ok(seen
        .events(&|name| proxy.mcp_servers.get(name).map_or((true, 0), |it| (it.required, it.allowed_deaths))))
}

impl Seen {
    fn look(&mut self, now: BTreeMap<String, BTreeSet<Process>>) {
        for (server, before) in &self.now {
            let still = now.get(server);
            let gone = before.iter().filter(|one| !still.is_some_and(|still| still.contains(one)));
            let gone: Vec<_> = gone.copied().collect();
            if !gone.is_empty() {
                self.gone.entry(server.clone()).or_default().extend(gone);
            }
        }
        self.looks += 1;
        self.now = now;
    }

    fn events(&self, entry: &dyn Fn(&str) -> (bool, u32)) -> Vec<ServerEvent> {
        let mut events = Vec::new();
        let mut add = |server: &str, happened: Happened| {
            let (required, allowed_deaths) = entry(server);
            let number = events.len() as u64;
            events.push(ServerEvent {
                number,
                server: server.to_owned(),
                required,
                allowed_deaths,
                happened,
            });
        };
        for (server, gone) in &self.gone {
            add(server, Happened::Ready);
            for Process { pid, .. } in gone {
                let why = format!("its process {pid} was gone at a later look; how it ended is not known");
                add(server, Happened::Died(Death::new(&why, None, &[])));
            }
        }
        events
    }
}

/// The first process of each server, by its label: what a server starts itself has the same one, and may end.
fn processes_below(root: i32) -> BTreeMap<String, BTreeSet<Process>> {
    let rows = tree::descendants(root);
    let label = |pid: i32| {
        let environment = tree::environ(pid).ok()?;
        let (_, label) = environment.into_iter().find(|(name, _)| name == STELAE_PROCESS::DECLARED.name)?;
        label.strip_prefix(LABEL).map(str::to_owned)
    };
    let labels: BTreeMap<i32, String> =
        rows.iter().filter(|row| !row.zombie).filter_map(|row| Some((row.pid, label(row.pid)?))).collect();
    let mut servers: BTreeMap<String, BTreeSet<Process>> = BTreeMap::new();
    for row in &rows {
        let Some(server) = labels.get(&row.pid) else { continue };
        let is_first = labels.get(&row.parent) != Some(server);
        if let Some(started) = tree::started_ticks(row.pid).filter(|_| is_first) {
            servers.entry(server.clone()).or_default().insert(Process { pid: row.pid, started });
        }
    }
    servers
}

/// How long the account may take to be asked for when a stage has failed already.
const LATE_LOOK: Duration = Duration::from_secs(2);

/// The death of a server that is behind the failure of a stage, if there was one.
pub(crate) fn server_died(cx: &mut SmokeContext, restarted: &Restarted) -> Option<Failure> {
    let deadline = std::mem::replace(&mut cx.deadline, Deadline::after(LATE_LOOK));
    let died = check_deaths(cx, restarted).err().filter(|failure| failure.kind == "service-died");
    cx.deadline = deadline;
    died
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(servers: &[(&str, &[(i32, u64)])]) -> BTreeMap<String, BTreeSet<Process>> {
        let processes = |all: &[(i32, u64)]| {
            all.iter().map(|&(pid, started)| Process { pid, started }).collect::<BTreeSet<_>>()
        };
        servers.iter().map(|(name, all)| ((*name).to_owned(), processes(all))).collect()
    }

    fn seen(looks: &[BTreeMap<String, BTreeSet<Process>>]) -> Seen {
        let mut seen = Seen::default();
        looks.iter().for_each(|one| seen.look(one.clone()));
        seen
    }

    #[test]
    fn a_process_that_another_took_the_place_of_has_died() {
        let (first, same_pid) = (look(&[("a", &[(7, 100)])]), look(&[("a", &[(7, 105)])]));
        let died = |looks: &[_]| judge_servers(&seen(looks).events(&|_| (false, 0)));
        assert_eq!(died(&[first.clone(), first.clone()]), Ok(vec![]));
        for other in [&same_pid, &look(&[("a", &[(8, 100)])]), &look(&[]), &look(&[("b", &[(7, 100)])])] {
            let failure = died(&[first.clone(), other.clone()]).unwrap_err();
            assert_eq!(
                (failure.kind.as_str(), failure.what.as_str()),
                ("service-died", "server a died once")
            );
        }
        // Each is counted, also when a later look sees none of them.
        let failure = died(&[first.clone(), same_pid, first, look(&[])]).unwrap_err();
        assert_eq!(failure.what, "server a died 3 times");
    }

    #[test]
    fn one_that_comes_later_or_besides_is_no_death_and_an_allowed_one_is_none() {
        let looks = [look(&[]), look(&[("a", &[(7, 1)])]), look(&[("a", &[(7, 1), (8, 2)])])];
        assert_eq!(judge_servers(&seen(&looks).events(&|_| (true, 0))), Ok(vec![]));
        let died = [looks[2].clone(), looks[1].clone()];
        assert_eq!(judge_servers(&seen(&died).events(&|_| (true, 1))).unwrap().len(), 1);
    }
}
