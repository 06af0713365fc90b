//! What changed from one run to another.

use std::collections::BTreeSet;

use super::{Golden, GoldenCall, GoldenStage};
use crate::failure::shortened;
use crate::transcript::CallEnd;

/// Characters of a text that a difference shows.
const SHOWN: usize = 160;

/// What is not as it was, a line each; nothing if all is. Versions are not compared: that is what changed on purpose.
pub fn compare(was: &Golden, is: &Golden) -> Vec<String> {
    let mut lines = Vec::new();
    if was.agent != is.agent {
        lines.push(format!("the agent was {}, and is {}", was.agent, is.agent));
    }
    let names = |golden: &Golden| golden.stages.iter().map(|stage| stage.name.clone()).collect::<Vec<_>>();
    if names(was) != names(is) {
        lines.push(format!("the stages were {}, and are {}", names(was).join(", "), names(is).join(", ")));
    }
    for stage in &was.stages {
        if let Some(now) = is.stages.iter().find(|now| now.name == stage.name) {
            let changes = Changes::of(stage, now);
            lines.extend(changes.into_iter().map(|line| format!("stage {}: {line}", stage.name)));
        }
    }
    lines
}

/// How a call ended, told apart from every other way.
fn name_of(end: &CallEnd) -> &'static str {
    match end {
        CallEnd::Answered(_) => "answered",
        CallEnd::ToolError(_) => "tool error",
        CallEnd::Failed(_) => "failed",
        CallEnd::Refused(_) => "refused",
        CallEnd::NoSuchTool(_) => "no such tool",
    }
}

struct Changes(Vec<String>);

impl Changes {
    fn of(was: &GoldenStage, is: &GoldenStage) -> Vec<String> {
        let mut changes = Self(Vec::new());
        changes.set("the tools that the agent offers", &was.offered, &is.offered);
        changes.set("the tools that the gateway lists", &was.tools, &is.tools);
        changes.calls(&was.calls, &is.calls);
        changes.texts("what it says", &was.said, &is.said);
        changes.texts("what it warns of", &was.warned, &is.warned);
        let counted = |stage: &GoldenStage| {
            stage.others.iter().map(|(name, count)| format!("{name} ({count})")).collect::<BTreeSet<_>>()
        };
        changes.set("what else happens", &counted(was), &counted(is));
        changes.0
    }

    fn set(&mut self, what: &str, was: &BTreeSet<String>, is: &BTreeSet<String>) {
        let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let (gone, new) = (list(was.difference(is).collect()), list(is.difference(was).collect()));
        for (word, names) in [("gone", gone), ("new", new)] {
            if !names.is_empty() {
                self.0.push(format!("{what}: {word}: {names}"));
            }
        }
    }

    fn calls(&mut self, was: &[GoldenCall], is: &[GoldenCall]) {
        let order = |calls: &[GoldenCall]| {
            let names: Vec<_> = calls.iter().map(|call| format!("{}/{}", call.server, call.tool)).collect();
            names.join(", ")
        };
        if order(was) != order(is) {
            self.0.push(format!("the calls were {}, and are {}", order(was), order(is)));
            return;
        }
        for (number, (was, is)) in was.iter().zip(is).enumerate() {
            let call = format!("call {} ({})", number + 1, was.tool);
            if was.arguments != is.arguments {
                self.differs(
                    &format!("{call}: arguments"),
                    &was.arguments.to_string(),
                    &is.arguments.to_string(),
                );
            }
            if was.end != is.end {
                let text = |end: &CallEnd| format!("{}: {}", name_of(end), end.text());
                self.differs(&format!("{call}: result"), &text(&was.end), &text(&is.end));
            }
        }
    }

    fn texts(&mut self, what: &str, was: &[String], is: &[String]) {
        if was != is {
            self.differs(what, &was.join(" / "), &is.join(" / "));
        }
    }

    /// Both texts, from where they begin to differ.
    fn differs(&mut self, what: &str, was: &str, is: &str) {
        let common = was.char_indices().zip(is.chars()).find(|((_, a), b)| a != b).map(|((at, _), _)| at);
        let at = common.unwrap_or_else(|| was.len().min(is.len()));
        // A little of what is the same says where it is.
        let from = was[..at].char_indices().rev().nth(20).map_or(0, |(at, _)| at);
        let shown = |text: &str| {
            let dots = if from > 0 { "…" } else { "" };
            format!("{dots}{}", shortened(&text[from..], SHOWN))
        };
        self.0.push(format!("{what}: was {:?}, is {:?}", shown(was), shown(is)));
    }
}
