//! A stage, for a person to play: an environment file that can be sourced, and the command.

use stelae_model::Failure;
use stelae_model::agent::{Agent, Model};
use stelae_model::catalog::Catalog;
use stelae_model::env::programs::declared;
use stelae_model::expect::Stage;
use stelae_model::stack::BUILTIN;
use stelae_model::terminal::{shell_word, shown};

use super::papers::Papers;
use super::prepare::prepare;
use super::verdict::{BEGUN, Begun, TRIED};
use crate::smoke::context::SmokeContext;
use crate::smoke::state::Restarted;

/// What a shell, and everything else that is started from it, carries must not look like a process of the run.
const MARKS: [&str; 2] = ["STELAE_RUN_ID", "STELAE_PROCESS"];
/// Secrets by their type, which in front of a model of ours are none: the way to that model, and a key that opens nothing.
const OURS: [&str; 3] = ["HTTPS_PROXY", "HTTP_PROXY", "ANTHROPIC_API_KEY"];

/// What a person types.
///
/// # Errors
/// What keeps the agent from being prepared.
pub(crate) fn manual_instructions(
    cx: &SmokeContext,
    stage: &Stage,
    restarted: &Restarted,
    catalog: &Catalog,
) -> Result<String, Failure> {
    // What an earlier session left is not what is about to be played.
    let papers = Papers::begin(cx, &stage.name)?;
    let prepared = prepare(cx, stage, restarted, catalog, &papers, None)?;
    if let Some(home) = prepared.home {
        home.leave();
    }
    cx.keep_json(&papers.named(BEGUN), &Begun::now(cx, restarted)?);
    let invocation = &prepared.invocation;
    let scripted = cx.plan.agent != Agent::Builtin && cx.plan.model == Model::Scripted;
    let mut env = String::from("# source this file in a shell of its own\n");
    for (variable, text) in
        invocation.environment().iter().filter(|(name, _)| !MARKS.contains(&name.as_str()))
    {
        let ours = scripted && OURS.contains(&variable.as_str());
        env += &match declared(variable).is_some_and(|declared| declared.secret) && !ours {
            // This file is evidence. The shell that sources it has what we were given, too.
            true => format!("# {variable} is a secret: export it in this shell\n"),
            false => format!("export {variable}={}\n", shell_word(text)),
        };
    }
    let env_file = papers.named("env");
    cx.keep(&env_file, env.as_bytes());
    let mut words: Vec<_> = std::iter::once(invocation.program.as_str())
        .chain(invocation.args.iter().map(String::as_str))
        .collect();
    // A person takes as long as it takes.
    if cx.plan.agent == Agent::Builtin {
        words.truncate(words.len() - 2);
    }
    // It is found by these, and ended with the run, wherever it gets to.
    let marks = invocation.environment().iter().filter(|(name, _)| MARKS.contains(&name.as_str()));
    let marks = marks.map(|(name, text)| format!("{name}={}", shell_word(text)));
    let command: Vec<_> = marks.chain(words.iter().map(|word| shell_word(word))).collect();
    // What an earlier try was asked and given is not what is judged.
    let mut again = match scripted {
        true => format!("rm -f {} && ", shell_word(papers.requests.as_str())),
        false => String::new(),
    };
    if let Some(calls) = restarted.calls.as_ref().filter(|_| cx.plan.gateway == BUILTIN) {
        let (calls, tried) =
            (shell_word(calls.as_str()), shell_word(cx.folder.join(&papers.named(TRIED)).as_str()));
        again += &format!("printf '{{\"calls_before\": %d}}\\n' $(wc -l < {calls}) > {tried} && ");
    }
    let complaints = match cx.plan.agent {
        Agent::Builtin => String::new(),
        // Codex says of some failures only here that they were.
        _ => format!(" 2> {}", shell_word(papers.complaints.as_str())),
    };
    Ok(format!(
        "the stack is up: {url}\nthe task: {prompt}\n\n  \
         (cd {cwd} && . {env} && {again}{command} > {transcript}{complaints} < /dev/null)\n\n\
         then: cargo xtask smoke --resume {run}\nor end it: cargo xtask runs stop {run}\n",
        url = restarted.endpoints.url,
        prompt = shown(&prepared.prompt),
        cwd = shell_word(invocation.cwd.as_str()),
        env = shell_word(cx.folder.join(&env_file).as_str()),
        command = command.join(" "),
        transcript = shell_word(papers.transcript.as_str()),
        run = cx.plan.run,
    ))
}
