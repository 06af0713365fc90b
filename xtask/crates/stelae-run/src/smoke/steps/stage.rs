//! `stage:*`: an agent plays a stage over MCP, and is judged by its transcript, the tool list and git.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use stelae_model::endpoints::Endpoints;
use stelae_model::env::programs::{AGENT, declared};
use stelae_model::env::{AgentEnv, Base, Invocation, ProgramEnv as _};
use stelae_model::event::Event;
use stelae_model::expect::{ended_calls, judge, judge_tools, read_transcript};
use stelae_model::flow::Step;
use stelae_model::stages::parse_smoke;
use stelae_model::transcript::CallStatus;
use stelae_model::value::{AbsolutePath, EnvValue as _};
use stelae_model::{ExitCode, Failure, expect};

use super::structural::{attest, check_stack, list_tools};
use crate::files::{read_regular_text, remove_stale};
use crate::process::{self, Limits};
use crate::smoke::context::{SmokeContext, read};
use crate::smoke::state::{Attested, Restarted, Staged};

/// From the moment when the agent gives up until it has said so.
const SAYING_WHY: Duration = Duration::from_secs(1);

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
    /// The stage of this name in the clone's `config/smoke.toml`.
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
        let stage = stage_of_clone(cx, self.name)?;
        check_stack(cx)?;
        let transcript = transcript_path(cx, self.name);
        if cx.plan.manual_stage.as_deref() == Some(self.name) {
            cx.recorder.note(format!("judging what was done by hand: {transcript}"));
        } else {
            play(cx, &stage, &restarted, &transcript)?;
        }
        judge_transcript(cx, &stage, &transcript)?;
        check_stack(cx)?;
        let tools = list_tools(cx, &restarted)?.names().into_iter().collect();
        judge_tools(&stage, &tools_before, &tools)?;
        // The stage may have started servers that nobody has looked at yet.
        attest(cx, &format!("environment-{}.json", self.name))?;
        check_clean(cx, self.name)?;
        Ok(After::new(restarted, tools))
    }
}

fn stage_of_clone(cx: &SmokeContext, name: &str) -> Result<expect::Stage, Failure> {
    let path = cx.sandbox.repo().join("config/smoke.toml");
    let config = parse_smoke(path.as_str(), &read(&path)?)?;
    let stage = config.stages.into_iter().find(|stage| stage.name == name);
    stage.ok_or_else(|| Failure::unexpected(format!("the stage {name} is not in {path}")))
}

fn transcript_path(cx: &SmokeContext, name: &str) -> Utf8PathBuf {
    cx.place(&format!("transcripts/{name}.jsonl"))
}

/// The builtin agent, for a stage: what is run, and what a person runs by hand.
fn agent(cx: &SmokeContext, stage: &expect::Stage, endpoints: &Endpoints) -> Result<Invocation, Failure> {
    let script = cx.place(&format!("transcripts/{}.script.json", stage.name));
    let calls: Vec<_> =
        stage.calls.iter().map(|call| json!({"tool": call.tool, "arguments": call.arguments})).collect();
    let text = json!({"calls": calls, "message": "done"}).to_string();
    std::fs::write(&script, text + "\n").map_err(|error| {
        Failure::new(ExitCode::StepFailed, "script-unwritable", "the agent's script cannot be written")
            .on(script.to_string())
            .because(error.to_string())
    })?;
    let inside = cx.sandbox.environment(&cx.host)?;
    let (base, env) = (Base::from_environment(&inside)?, AgentEnv::from_environment(&inside)?);
    let program = cx.sandbox.bin_dir().join("stelae-gateway");
    // It has to be over a little sooner than we are: then its transcript says which call did not come back.
    let left = cx.deadline.remaining();
    let deadline_ms = left.saturating_sub(SAYING_WHY).max(left / 2).as_millis().max(1).to_string();
    let agent = AGENT.invoke(program, cx.sandbox.repo(), &base, &env).args(["agent"]);
    let reached = endpoints.each().into_iter().flat_map(|(server, url)| match server {
        None => ["--url".to_owned(), url.to_owned()],
        Some(server) => ["--server-url".to_owned(), format!("{server}={url}")],
    });
    Ok(agent.args(reached).args(["--script", script.as_str(), "--deadline-ms", &deadline_ms]))
}

fn play(
    cx: &SmokeContext,
    stage: &expect::Stage,
    restarted: &Restarted,
    transcript: &Utf8PathBuf,
) -> Result<(), Failure> {
    let invocation = agent(cx, stage, &restarted.endpoints)?;
    // Left by an earlier session that failed here: it would be judged together with the new one.
    remove_stale(transcript)?;
    let talk = cx.log(&format!("agent-{}", stage.name));
    let limits =
        Limits { deadline: cx.deadline, interrupt: &cx.interrupt, stdout: transcript, stderr: &talk };
    let finished = cx.recorder.minding_leaks(process::run(&invocation, &limits, &mut |stream, line| {
        if stream == process::Stream::Stderr {
            cx.recorder.line("agent", line);
        }
    })?);
    // The transcript says more than the exit code, so it is judged first; but a bad exit is never green.
    if !finished.status.is_success() && judge_transcript(cx, stage, transcript).is_ok() {
        return finished.success_or_failure().map(drop);
    }
    Ok(())
}

fn judge_transcript(cx: &SmokeContext, stage: &expect::Stage, path: &Utf8PathBuf) -> Result<(), Failure> {
    let text = read_regular_text(path).map_err(|error| {
        Failure::new(ExitCode::ExpectationNotMet, "transcript-missing", "there is no transcript of the stage")
            .on(path.to_string())
            .because(error.to_string())
            .hint("play the stage by hand first, with the command that was printed")
    })?;
    let transcript = read_transcript(path.as_str(), &text)?;
    for call in ended_calls(&transcript) {
        let status = if call.status == CallStatus::Completed { "completed" } else { "failed" };
        cx.recorder.event(Event::Call {
            stage: stage.name.clone(),
            tool: call.tool.clone(),
            status: status.to_owned(),
        });
    }
    judge(stage, &transcript).map_err(|failure| failure.on(path.to_string()))
}

/// That the clone is as it was cloned.
pub(super) fn check_clean(cx: &SmokeContext, after: &str) -> Result<(), Failure> {
    let index = cx.sandbox.tmp().join("status-index");
    let index = AbsolutePath::parse(index.as_str()).map_err(Failure::unexpected)?;
    let repo = cx.sandbox.repo();
    let differences = cx.git_with(|git, limits| git.differences(&repo, &index, limits, &cx.recorder))?;
    if differences.is_empty() {
        return Ok(());
    }
    let mut failure = Failure::new(ExitCode::Drift, "git-not-clean", "the clone is not clean any more")
        .on(repo.to_string())
        .because(format!("after {after}, git status says:"));
    for line in differences.iter().take(10) {
        failure = failure.because(line.clone());
    }
    Err(failure.hint("whatever wrote there should write to the config home or the state home"))
}

/// What a person types to play the stage: an environment file that can be sourced, and the command.
///
/// # Errors
/// What makes the agent's invocation fail.
pub(crate) fn manual_instructions(
    cx: &SmokeContext,
    name: &str,
    restarted: &Restarted,
) -> Result<String, Failure> {
    let stage = stage_of_clone(cx, name)?;
    let invocation = agent(cx, &stage, &restarted.endpoints)?;
    let mut env = String::from("# source this file in a shell of its own\n");
    // What a shell and everything started from it carries must not look like a process of the run.
    let marks = ["STELAE_RUN_ID", "STELAE_PROCESS"];
    for (variable, text) in
        invocation.environment().iter().filter(|(name, _)| !marks.contains(&name.as_str()))
    {
        env += &match declared(variable).is_some_and(|declared| declared.secret) {
            // This file is evidence. The shell that sources it has what we were given, too.
            true => format!("# {variable} is a secret: export it in this shell\n"),
            false => format!("export {variable}={}\n", quoted(text)),
        };
    }
    let transcript = transcript_path(cx, name);
    // One that an earlier session left is not what is about to be played.
    remove_stale(&transcript)?;
    let env_file = format!("transcripts/{name}.env");
    cx.keep(&env_file, env.as_bytes());
    let words: Vec<_> = std::iter::once(invocation.program.as_str())
        .chain(invocation.args.iter().map(String::as_str))
        .collect();
    let (command, deadline) = words.split_at(words.len() - 2);
    debug_assert_eq!(deadline[0], "--deadline-ms");
    let command: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    Ok(format!(
        "the stack is up: {url}\nthe task: {prompt}\n\n  \
         (cd {cwd} && . {env} && {command} > {transcript})\n\n\
         then: cargo xtask smoke --resume {run}\nor end it: cargo xtask runs stop {run}\n",
        url = restarted.endpoints.url,
        prompt = stage.prompt,
        cwd = quoted(invocation.cwd.as_str()),
        env = quoted(cx.folder.join(&env_file).as_str()),
        command = command.join(" "),
        transcript = quoted(transcript.as_str()),
        run = cx.plan.run,
    ))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
