//! `stage:*`: an agent plays a stage over MCP, and is judged by what everybody saw of it, the tool list and git.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stelae_model::Failure;
use stelae_model::expect;
use stelae_model::flow::Step;
use stelae_model::judge::{judge_never, judge_tools, judge_tools_before};

use super::structural::{attest, list_tools, stack_died};
use crate::smoke::context::SmokeContext;
use crate::smoke::description::SMOKE;
use crate::smoke::servers::{check_deaths, server_died};
use crate::smoke::state::{Attested, Restarted, Staged};
use crate::smoke::{manifest, play};

/// The state between two stages.
pub(crate) trait AfterStage: Serialize + DeserializeOwned {
    /// Puts it together.
    fn new(restarted: Restarted, tools: BTreeSet<String>) -> Self;
    /// Takes it apart.
    fn take(self) -> (Restarted, BTreeSet<String>);
}

impl<const DONE: u8> AfterStage for Staged<DONE> {
    fn new(restarted: Restarted, tools: BTreeSet<String>) -> Self {
        Self { restarted, tools }
    }

    fn take(self) -> (Restarted, BTreeSet<String>) {
        (self.restarted, self.tools)
    }
}

impl AfterStage for Attested {
    fn new(restarted: Restarted, tools: BTreeSet<String>) -> Self {
        Self { restarted, tools }
    }

    fn take(self) -> (Restarted, BTreeSet<String>) {
        (self.restarted, self.tools)
    }
}

/// Plays one stage. `Before` and `After` put the stages in their order.
#[derive(Debug)]
pub(crate) struct Stage<Before, After> {
    name: &'static str,
    order: PhantomData<fn(Before) -> After>,
}

impl<Before, After> Stage<Before, After> {
    /// The stage of this name in the commit's `config/smoke.toml`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, order: PhantomData }
    }
}

impl<Before: AfterStage, After: AfterStage> Step for Stage<Before, After> {
    type Context = SmokeContext;
    type Needs = Before;
    type Gives = After;

    fn name(&self) -> String {
        format!("stage:{}", self.name)
    }

    fn perform(&self, cx: &mut SmokeContext, before: Before) -> Result<After, Failure> {
        let (restarted, tools_before) = before.take();
        let stage = stage_of_commit(cx, self.name, restarted.nonce())?;
        let by_hand = play::is_by_hand(cx, self.name) && cx.plan.from != Some(self.name());
        if by_hand {
            // Whatever becomes of the stage: what a person was lent, they have no use for any more.
            play::take_back(cx, &stage)?;
        }
        check_deaths(cx, &restarted)?;
        if by_hand {
            cx.calls_seen = Some(play::judge_by_hand(cx, &stage, &restarted)?);
        } else {
            play::check_nothing_since(cx, &restarted, "before this stage")?;
            let catalog = list_tools(cx, &restarted)?;
            judge_tools_before(&stage, &tools_before, &catalog.names().into_iter().collect())?;
            judge_never(&stage, &catalog)?;
            let played = play::play(cx, &stage, &restarted, &catalog);
            cx.calls_seen = Some(played.map_err(|failure| cause(cx, &restarted, failure))?);
        }
        check_deaths(cx, &restarted)?;
        let tools = list_tools(cx, &restarted)?.names().into_iter().collect();
        judge_tools(&stage, &tools_before, &tools)?;
        play::keep_golden(cx, &stage, restarted.nonce(), &tools)?;
        // The stage may have started servers that nobody has looked at yet.
        attest(cx, &format!("environment-{}.json", self.name), &restarted)?;
        manifest::check(cx, &self.name(), &stage.declared())?;
        play::check_nothing_since(cx, &restarted, &format!("stage {}", self.name))?;
        Ok(After::new(restarted, tools))
    }
}

/// What an agent comes to when its server is gone.
const SERVER_GONE: [&str; 3] = ["call-failed", "call-missing", "server-missing"];

/// Why a stage failed: the end of the stack or of a server, if that is what the agent ran into.
fn cause(cx: &mut SmokeContext, restarted: &Restarted, failure: Failure) -> Failure {
    if !SERVER_GONE.contains(&failure.kind.as_str()) {
        return failure;
    }
    match stack_died(cx).or_else(|| server_died(cx, restarted)) {
        Some(died) => {
            let died = failure.on.into_iter().fold(died.because(failure.what), Failure::on);
            failure.why.into_iter().fold(died, Failure::because)
        }
        None => failure,
    }
}

/// The stage of this name, with the run's nonce.
fn stage_of_commit(cx: &SmokeContext, name: &str, nonce: &str) -> Result<expect::Stage, Failure> {
    let stage = cx.described.smoke.stages.iter().find(|stage| stage.name == name);
    let stage = stage.ok_or_else(|| Failure::unexpected(format!("the commit describes no stage {name}")))?;
    stage.filled(&cx.described.place(SMOKE), nonce)
}

/// What a person types to play the stage of this name.
///
/// # Errors
/// What keeps the agent from being prepared.
pub(crate) fn manual_instructions(
    cx: &mut SmokeContext,
    name: &str,
    restarted: &Restarted,
) -> Result<String, Failure> {
    let stage = stage_of_commit(cx, name, restarted.nonce())?;
    let catalog = list_tools(cx, restarted)?;
    let listed = catalog.names().into_iter().collect();
    judge_tools_before(&stage, &listed, &listed)?;
    judge_never(&stage, &catalog)?;
    play::manual_instructions(cx, &stage, restarted, &catalog)
}
