use serde_json::json;

use super::*;
use crate::agent::Model;
use crate::transcript::{Call, CallStarted};

fn masks() -> Masks {
    Masks::new([
        ("/tmp/w".to_owned(), "WORKSPACE"),
        ("/tmp/w/repo".to_owned(), "REPO"),
        ("127.0.0.9:1".to_owned(), "GATEWAY"),
        (String::new(), "NOTHING"),
    ])
}

fn transcript(text: &str) -> Transcript {
    let call = Call {
        id: "item_1".to_owned(),
        server: "stelae".to_owned(),
        tool: "read".to_owned(),
        arguments: json!({"path": "/tmp/w/repo/README.md"}),
        end: CallEnd::Answered(text.to_owned()),
        structured: None,
    };
    let begun = CallStarted { id: "item_1".to_owned(), tool: "read".to_owned() };
    let events = vec![
        AgentEvent::Started { servers: BTreeMap::new() },
        AgentEvent::CallStarted(begun),
        AgentEvent::CallEnded(call),
        AgentEvent::Said("done".to_owned()),
        AgentEvent::Completed,
    ];
    Transcript { events }
}

fn golden(text: &str) -> Golden {
    let tools = ["read".to_owned()].into();
    let offered = ["read".to_owned()].into();
    let stage = GoldenStage::new("s", &transcript(text), offered, tools, &masks());
    Golden {
        schema: 1,
        agent: Agent::Codex,
        model: Model::Scripted,
        version: Some("1".to_owned()),
        stages: vec![stage],
    }
}

#[test]
fn what_is_another_in_each_run_is_masked() {
    let masked = |text: &str| masks().text(text);
    assert_eq!(masked("/tmp/w/repo/x in /tmp/w at 127.0.0.9:1"), "REPO/x in WORKSPACE at GATEWAY");
    assert_eq!(masked("é 01a1fb05-ab90-7553-ac52-211b71915bab."), "é ID.");
    assert_eq!(masked("at 2026-11-20T22:14:03.828Z, é"), "at TIMEZ, é");
    assert_eq!(masked("2026-11-20 and 01a1fb05-ab90"), "2026-11-20 and 01a1fb05-ab90");
    let value = masks().value(&json!({"a": ["/tmp/w", 1]}));
    assert_eq!(value, json!({"a": ["WORKSPACE", 1]}));
}

#[test]
fn two_runs_that_differ_in_masked_things_only_are_the_same_bytes() {
    let text = |golden: &Golden| serde_json::to_string(golden).unwrap();
    let (one, other) = (golden("at 2026-11-20T22:14:03Z"), golden("at 2027-01-01T00:00:00.1Z"));
    assert_eq!(text(&one), text(&other));
    assert_eq!(compare(&one, &other), [""; 0]);
    assert_eq!(serde_json::from_str::<Golden>(&text(&one)).unwrap(), one);
}

#[test]
fn each_kind_of_change_is_said() {
    let changed = |change: &dyn Fn(&mut Golden)| {
        let (was, mut is) = (golden("fine"), golden("fine"));
        change(&mut is);
        let lines = compare(&was, &is);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    };
    assert!(changed(&|is| is.agent = Agent::Claude).contains("was codex, and is claude"));
    assert!(changed(&|is| is.stages[0].name = "t".to_owned()).contains("the stages were s, and are t"));
    let offered = changed(&|is| is.stages[0].offered = ["write".to_owned(), "read".to_owned()].into());
    assert_eq!(offered, "stage s: the tools that the agent offers: new: write");
    let tools = changed(&|is| is.stages[0].tools.clear());
    assert_eq!(tools, "stage s: the tools that the gateway lists: gone: read");
    let order = changed(&|is| is.stages[0].calls[0].tool = "write".to_owned());
    assert_eq!(order, "stage s: the calls were stelae/read, and are stelae/write");
    let arguments = changed(&|is| is.stages[0].calls[0].arguments = json!({"path": "x"}));
    assert!(arguments.contains("call 1 (read): arguments: was"), "{arguments}");
    let result = changed(&|is| is.stages[0].calls[0].end = CallEnd::ToolError("fine".to_owned()));
    assert!(result.contains("was \"answered: fine\", is \"tool error: fine\""), "{result}");
    let said = changed(&|is| is.stages[0].said.push("more".to_owned()));
    assert!(said.contains("what it says: was \"done\", is \"done / more\""), "{said}");
    assert!(changed(&|is| is.stages[0].warned.push("x".to_owned())).contains("what it warns of"));
    let others = changed(&|is| is.stages[0].others.extend([("unknown: hologram".to_owned(), 2)]));
    assert_eq!(others, "stage s: what else happens: new: unknown: hologram (2)");
}

#[test]
fn a_long_text_is_shown_from_where_it_differs() {
    let long = "é".repeat(500);
    let line = compare(&golden(&format!("{long}a")), &golden(&format!("{long}b"))).remove(0);
    assert!(line.chars().count() < 300 && line.contains("éa") && line.contains("éb"), "{line}");
}

#[test]
fn another_version_is_no_change() {
    let (was, mut is) = (golden("x"), golden("x"));
    is.version = Some("2".to_owned());
    assert_eq!(compare(&was, &is), [""; 0]);
}
