//! `restart`: the clone starts its stack, and the run owns it.

use stelae_model::Failure;
use stelae_model::flow::Step;

use crate::smoke::context::SmokeContext;
use crate::smoke::stack::LiveStack;
use crate::smoke::state::{Rendered, Restarted};
use crate::stack::{Attendance, StackChild};

/// How long a stack that is left up for a manual stage lives at the most.
const MANUAL_LIFETIME_S: &str = "3600";

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
        let (attendance, life) = match cx.plan.manual_stage {
            Some(_) => (Attendance::MayStay, ["--lifetime-s", MANUAL_LIFETIME_S]),
            None => (Attendance::EndsWithUs, ["--life-line", "stdin"]),
        };
        let log = cx.log("gateway");
        let invocation = cx.xtask(&["restart", "--attached", "--log", log.as_str()])?.args(life);
        let events = cx.log("restart");
        let child =
            StackChild::start(&invocation, &events, attendance, cx.deadline, &cx.interrupt, &cx.recorder)?;
        let restarted = Restarted {
            rendered,
            url: child.url.clone(),
            supervisor: child.pid(),
            supervisor_started: child.started,
        };
        cx.stack = Some(LiveStack::Child(Box::new(child)));
        Ok(restarted)
    }
}
