//! `restart`: the clone starts its stack, and the run owns it.

use std::time::Duration;

use stelae_model::Failure;
use stelae_model::flow::Step;

use crate::ports;
use crate::process::{beside_calls, record_starts};
use crate::smoke::context::SmokeContext;
use crate::smoke::play::CALLS;
use crate::smoke::protection::protected;
use crate::smoke::servers::{check_deaths, lines_before};
use crate::smoke::stack::LiveStack;
use crate::smoke::state::{Rendered, Restarted};
use crate::stack::{Attendance, StackChild};

/// How long a stack that is left up for a manual stage lives at the most.
const MANUAL_LIFETIME_S: &str = "3600";

/// From the moment when the supervisor gives up until it has said so.
const SAYING_WHY: Duration = Duration::from_millis(500);

/// Runs the clone's `xtask restart --attached`.
#[derive(Debug)]
pub(crate) struct Restart;

impl Step for Restart {
    type Context = SmokeContext;
    type Needs = Rendered;
    type Gives = Restarted;

    fn name(&self) -> String {
        "restart".to_owned()
    }

    fn perform(&self, cx: &mut SmokeContext, rendered: Rendered) -> Result<Restarted, Failure> {
        let (attendance, own) = match cx.plan.manual_stage {
            Some(_) => (Attendance::MayStay, ["--lifetime-s", MANUAL_LIFETIME_S]),
            // What keeps a run together was decided once, for all of it.
            None => (Attendance::EndsWithUs, ["--isolation", "guard"]),
        };

        // It has to be over a little sooner than we are: then it is the one that says why.
        let budget =
            cx.deadline.remaining().saturating_sub(SAYING_WHY).max(SAYING_WHY).as_secs_f64().to_string();
        let server_events_before = lines_before(cx);
        let (log, calls, evidence) = (cx.log("gateway"), cx.place(CALLS), cx.place("stack"));
        let invocation = cx
            .xtask(&[
                "restart",
                "--attached",
                "--life-line",
                "stdin",
                "--budget-s",
                &budget,
                "--log",
                log.as_str(),
                "--calls",
                calls.as_str(),
                "--evidence",
                evidence.as_str(),
                "--gateway",
                &cx.plan.gateway,
            ])?
            .args(own);
        let invocation = protected(cx, &invocation, None)?;
        let events = cx.log("restart");
        let starts = beside_calls(&calls);
        if let Err(error) = record_starts(&starts) {
            cx.recorder.evidence_failed(starts.as_str(), &error);
        }
        let child =
            StackChild::start(&invocation, &events, attendance, cx.deadline, &cx.interrupt, &cx.recorder)
                .map_err(ports::name_stranger)?;
        cx.check_programs()?;
        let restarted = Restarted {
            rendered,
            endpoints: child.endpoints.clone(),
            calls: Some(calls),
            server_events_before,
            supervisor: child.pid(),
            supervisor_started: child.started,
            supervisor_log_start: child.log_start(),
        };
        cx.stack = Some(LiveStack::Child(Box::new(child)));
        check_deaths(cx, &restarted)?;
        Ok(restarted)
    }
}
