use serde_json::json;

use super::*;
use crate::ExitCode;

fn expected(text: &str) -> Expected {
    read(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

/// As it stands in a file.
fn read(text: &str) -> Result<Expected, String> {
    #[derive(Debug, Deserialize)]
    struct File {
        result: Expected,
    }
    toml::from_str::<File>(&format!("result = {text}"))
        .map(|file| file.result)
        .map_err(|error| error.message().to_owned())
}

fn meets(text: &str, answer: &str) -> bool {
    expected(text).judge(Answer { text: answer, structured: None }).is_ok()
}

fn meets_both(expectation: &str, text: &str, structured: &Value) -> bool {
    expected(expectation).judge(Answer { text, structured: Some(structured) }).is_ok()
}

#[test]
fn a_number_is_that_number_and_no_other() {
    let words = "{ json = \"/words\", equals = 3 }";
    for (answer, is) in [
        (r#"{"words":3}"#, true),
        (r#"{"words":3.0}"#, true),
        (r#"{ "words" : 3e0 }"#, true),
        (r#"{"words":33}"#, false),
        (r#"{"words":3.0000001}"#, false),
        (r#"{"words":"3"}"#, false),
        (r#"{"words":-3}"#, false),
        (r#"{"lines":3}"#, false),
        ("3", false),
        ("words: 3", false),
        ("", false),
    ] {
        assert_eq!(meets(words, answer), is, "{answer}");
    }
    assert!(meets("{ json = \"/n\", equals = 3.0 }", r#"{"n":3}"#));
    // A double cannot tell these two apart.
    assert!(!meets("{ json = \"/n\", equals = 9007199254740993 }", r#"{"n":9007199254740992}"#));
    assert!(!meets("{ json = \"/n\", equals = 9007199254740993 }", r#"{"n":9007199254740992.0}"#));
    assert!(meets("{ json = \"/n\", equals = 0.1 }", r#"{"n":0.1}"#));
    assert!(same(&json!(u64::MAX), &json!(u64::MAX)) && !same(&json!(u64::MAX), &json!(i64::MIN)));
    assert!(same(&json!(-0.0), &json!(0)) && same(&json!(1e300), &json!(1e300)));
}

#[test]
fn a_value_is_compared_whole() {
    let matches = "{ json = \"/matches\", equals = [{ path = \"a\", line = 1 }] }";
    assert!(meets(matches, r#"{"matches":[{"line":1,"path":"a"}],"truncated":false}"#));
    for other in [
        r#"{"matches":[{"line":1,"path":"a"},{"line":2,"path":"a"}]}"#,
        r#"{"matches":[{"line":1,"path":"a","text":"x"}]}"#,
        r#"{"matches":[]}"#,
        r#"{"matches":{"line":1,"path":"a"}}"#,
    ] {
        assert!(!meets(matches, other), "{other}");
    }
    assert!(meets("{ json = \"/a~1b/0\", equals = true }", r#"{"a/b":[true]}"#));
    assert!(meets("{ json = \"\", equals = [1] }", "[1]"));
    assert!(meets("{ json = \"/p\", contains = \"ell\" }", r#"{"p":"hello"}"#));
    assert!(meets("{ json = \"/p\", matches = 'h.*o' }", r#"{"p":"hello"}"#));
    assert!(!meets("{ json = \"/p\", matches = 'h.*l' }", r#"{"p":"hello"}"#));
    assert!(!meets("{ json = \"/p\", contains = \"1\" }", r#"{"p":1}"#));
}

#[test]
fn structured_content_and_json_text_are_asked_alike() {
    let words = "{ json = \"/words\", equals = 3 }";
    assert!(meets_both(words, "three words", &json!({"words": 3})));
    assert!(meets_both(words, r#"{"words":3}"#, &json!({"words": 3})));
    // A text for people, that is JSON by accident.
    assert!(meets_both(words, "3", &json!({"words": 3})));
    assert!(!meets_both(words, r#"{"words":33}"#, &json!({"words": 3})), "they contradict each other");
    assert!(!meets_both(words, r#"{"words":3}"#, &json!({"words": 33})));
    assert!(!meets_both(words, r#"{"words":3}"#, &json!({})));
}

#[test]
fn a_pattern_fits_the_whole_text() {
    let words = r"{ matches = 'words: 3' }";
    assert!(meets(words, "words: 3"));
    for other in ["words: 33", "some words: 3", "words: 3\n", "3", ""] {
        assert!(!meets(words, other), "{other:?}");
    }
    // Of two ways to fit, the one that reaches the end counts.
    assert!(meets(r"{ matches = 'a|ab' }", "ab"));
    assert!(meets(r"{ matches = '(?s)first.*last' }", "first\nlast"));
    assert!(!meets(r"{ matches = 'first.*last' }", "first\nlast"));
}

#[test]
fn a_text_is_exact_or_has_a_part() {
    assert!(meets("{ equals = \"x\\n\" }", "x\n") && !meets("{ equals = \"x\" }", "x\n"));
    assert!(meets("{ contains = \"x\" }", "axb") && !meets("{ contains = \"x\" }", "ab"));
}

#[test]
fn what_must_not_be_has_to_be_there_to_be_looked_at() {
    let no_hit = "{ not = { contains = \"no such pattern\" } }";
    assert!(meets(no_hit, "README.md:1: x") && !meets(no_hit, "README.md: no such pattern"));
    let other = "{ not = { json = \"/words\", equals = 3 } }";
    assert!(meets(other, r#"{"words":4}"#) && !meets(other, r#"{"words":3.0}"#));
    assert!(!meets(other, "no JSON") && !meets(other, r#"{"lines":4}"#));
    let text = "{ not = { json = \"/p\", contains = \"x\" } }";
    assert!(meets(text, r#"{"p":"y"}"#) && !meets(text, r#"{"p":1}"#));
    let absent = "{ json = \"/error\", absent = true }";
    assert!(meets(absent, "{}") && !meets(absent, r#"{"error":null}"#) && !meets(absent, "no JSON"));
    let there = "{ not = { json = \"/error\", absent = true } }";
    assert!(!meets(there, "{}") && meets(there, r#"{"error":null}"#) && !meets(there, "no JSON"));
}

#[test]
fn what_was_expected_and_what_came_are_told() {
    let why = |text: &str, answer: &str| {
        expected(text).judge(Answer { text: answer, structured: None }).unwrap_err().join("; ")
    };
    assert_eq!(
        why("{ json = \"/words\", equals = 3 }", r#"{"words":33}"#),
        "expected the value at /words to be 3; got 33"
    );
    assert_eq!(
        why("{ not = { contains = \"x\" } }", "axb"),
        "expected the text not to contain \"x\"; got \"axb\""
    );
    assert!(why("{ json = \"/a\", equals = 3 }", "text").ends_with("got \"text\", which is no JSON"));
    assert!(why("{ json = \"/a\", equals = 3 }", "{}").contains("there is no such value"));
    assert!(why("{ equals = \"y\" }", &"x".repeat(10_000)).len() < 1000);
}

#[test]
fn an_expectation_is_one_thing() {
    for (bad, why) in [
        ("{}", "nothing is expected"),
        ("{ json = \"/a\" }", "nothing is expected"),
        ("{ equals = 1, contains = \"x\" }", "two things at once"),
        ("{ json = \"/a\", not = { equals = 1 } }", "inside of `not`"),
        ("{ not = { not = { equals = 1 } } }", "a `not` in a `not`"),
        ("{ not = {} }", "nothing is expected"),
        ("{ absent = true }", "needs `json`"),
        ("{ json = \"/a\", absent = false }", "is left out"),
        ("{ equal = 1 }", "unknown field `equal`"),
    ] {
        let said = read(bad).unwrap_err();
        assert!(said.contains(why), "{bad}: {said}");
    }
}

#[test]
fn what_anything_meets_is_no_expectation() {
    for bad in [
        "{ contains = \"\" }",
        "{ contains = \" \\n\" }",
        "{ not = { contains = \"\" } }",
        "{ json = \"/a\", contains = \"\" }",
        "{ equals = \"\" }",
        "{ matches = \"\" }",
        "{ matches = '.*' }",
        "{ matches = '(?s).+' }",
        "{ matches = '(a|)' }",
        "{ matches = '^' }",
        "{ matches = '(' }",
        "{ matches = 'a)|(b' }",
        "{ not = { matches = '.*' } }",
        "{ json = \"words\", equals = 3 }",
        "{ json = \"$.words\", equals = 3 }",
        "{ json = \"/a~2\", equals = 3 }",
        "{ json = \"/a~\", equals = 3 }",
        "{ json = \"/a\", equals = nan }",
        "{ json = \"/a\", equals = [inf] }",
        "{ json = \"/a\", equals = 2026-11-30 }",
    ] {
        assert!(expected(bad).fault().is_some(), "{bad}");
    }
    for good in [
        "{ contains = \"x\" }",
        "{ not = { equals = \"\" } }",
        "{ json = \"/a\", equals = \"\" }",
        "{ json = \"\", equals = {} }",
        "{ matches = 'a.*' }",
        "{ json = \"/a\", equals = false }",
        "{ json = \"/a~0~1\", absent = true }",
    ] {
        assert_eq!(expected(good).fault(), None, "{good}");
    }
}

#[test]
fn an_expectation_is_written_as_it_is_read() {
    for text in [
        "{ contains = \"x\" }",
        "{ json = \"/a\", equals = [1, { b = 2.5 }] }",
        "{ not = { matches = 'x+' } }",
        "{ not = { json = \"/e\", absent = true } }",
    ] {
        let one = expected(text);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Expected>(&json).unwrap(), one, "{json}");
    }
}

const REAL: &str = include_str!("../../../../../config/smoke.toml");

fn real() -> Vec<Stage> {
    crate::stages::parse_smoke("smoke.toml", REAL).unwrap().stages
}

#[test]
fn the_nonce_is_in_every_text_of_a_call() {
    let text = r#"
        name = "s"
        prompt = "{{ NONCE }} {{ PROXY_PORT }}"
        may_change = ["config:{{ NONCE }}.toml"]
        [[call]]
        tool = "t"
        arguments = { a = ["{{ NONCE }}", { b = "x-{{NONCE}}" }, 1] }
        result_contains = "{{ NONCE }}!"
        result = [{ json = "/{{ NONCE }}", equals = { c = "{{ NONCE }}" } }, { not = { matches = 'a{2}{{ NONCE }}' } }]
        [[never]]
        tool = "t"
        arguments = { a = "{{ NONCE }}" }
    "#;
    let stage: Stage = toml::from_str(text).unwrap();
    let filled = stage.filled("smoke.toml", "n1").unwrap();
    let call = &filled.calls[0];
    assert_eq!(call.arguments, json!({"a": ["n1", {"b": "x-n1"}, 1]}));
    assert_eq!(call.result_contains.as_deref(), Some("n1!"));
    let all = serde_json::to_value(call.expected().collect::<Vec<_>>()).unwrap();
    assert_eq!(all[1], json!({"json": "/n1", "equals": {"c": "n1"}}));
    assert_eq!(all[2], json!({"not": {"matches": "a{2}n1"}}));
    assert!(filled.never[0].has(&json!({"a": "n1"})) && filled.may_change == ["config:n1.toml"]);
    assert_eq!(filled.prompt, stage.prompt, "it has more names, and is filled in elsewhere");
    assert_eq!(filled.fault(), None);

    let unknown = toml::from_str::<Stage>(&text.replace("x-{{NONCE}}", "{{ NONSE }}")).unwrap();
    let failure = unknown.filled("smoke.toml", "n1").unwrap_err();
    assert_eq!((failure.exit_code, failure.kind.as_str()), (ExitCode::Render, "unknown-name"));
    assert!(failure.to_string().contains("stage s"), "{failure}");
}

#[test]
fn no_constant_and_no_answer_of_another_run_meets_the_stages_of_this_repository() {
    for stage in real() {
        let filled = |nonce: &str| stage.filled("smoke.toml", nonce).unwrap();
        let (one, other) = (filled("n1111111111111111"), filled("n2222222222222222"));
        let differ = one.calls.iter().zip(&other.calls).filter(|(one, other)| {
            one.expected().collect::<Vec<_>>() != other.expected().collect::<Vec<_>>()
        });
        assert!(differ.count() > 0, "{}: no answer depends on the nonce", stage.name);
        assert!(stage.calls.iter().all(|call| call.expected().count() > 0), "{}", stage.name);
    }
}

#[test]
fn a_number_that_is_written_otherwise_is_still_forbidden() {
    let never = ForbiddenCall { tool: "t".to_owned(), arguments: json!({"n": 3}).as_object().cloned() };
    assert!(never.has(&json!({"n": 3.0, "m": 1})) && !never.has(&json!({"n": 33})));
    assert!(!never.has(&json!({})));
}
