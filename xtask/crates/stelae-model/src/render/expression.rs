//! One token: an expression of minijinja that must yield a scalar.
//!
//! The engine gets one expression at a time, never a whole template. So its tags (`{% … %}`) do not exist here, a value
//! is never evaluated again, and the place of every error is known exactly.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};

use super::Names;
use crate::env::nearest;
use crate::{ExitCode, Failure};

/// Evaluates the body of a token. The failure has no place yet.
///
/// # Errors
/// `empty-token`, `bad-expression`, `unknown-name`, `not-a-scalar` (exit 21), or `unset-variable` (exit 20).
pub(super) fn evaluate(body: &str, names: &Names) -> Result<String, Failure> {
    if body.trim().is_empty() {
        return Err(render("empty-token", "a token names nothing").hint("write a name in it: <<PROXY_PORT>>"));
    }
    let mut engine = Environment::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    let expression = engine.compile_expression(body).map_err(|error| bad(body, &error))?;
    // Sorted, because the first one decides which error is reported.
    let used: BTreeSet<String> = expression.undeclared_variables(false).into_iter().collect();
    let mut values = BTreeMap::new();
    for name in &used {
        values.insert(name.as_str(), lookup(name, names)?);
    }
    let value = expression.eval(Value::from_pairs(values)).map_err(|error| bad(body, &error))?;
    scalar(body, &value)
}

fn lookup<'n>(name: &str, names: &'n Names) -> Result<&'n str, Failure> {
    match names.value(name) {
        Some(Some(value)) => Ok(value),
        Some(None) => Err(Failure::new(
            ExitCode::Environment,
            "unset-variable",
            format!("variable {name} has no value, and a template needs it"),
        )
        .hint(format!("cargo xtask env explain {name}"))),
        None => {
            let hint = match nearest(name, names.known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known names: {}", names.known().collect::<Vec<_>>().join(", ")),
            };
            Err(render("unknown-name", format!("unknown name {name:?} in a template")).hint(hint))
        }
    }
}

fn scalar(body: &str, value: &Value) -> Result<String, Failure> {
    match value.kind() {
        // The engine would print Python's `True`.
        ValueKind::Bool => Ok(value.is_true().to_string()),
        ValueKind::String | ValueKind::Number => Ok(value.to_string()),
        kind => Err(render(
            "not-a-scalar",
            format!("a token yields {kind}, which is not text: {:?}", body.trim()),
        )
        .hint("only text, numbers and booleans can stand in a string")),
    }
}

fn bad(body: &str, error: &Error) -> Failure {
    let what = match error.kind() {
        ErrorKind::SyntaxError => "a token is not a name or an expression",
        _ => "a token cannot be evaluated",
    };
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    render("bad-expression", format!("{what}: {:?}", body.trim())).because(detail)
}

fn render(kind: &str, what: impl Into<String>) -> Failure {
    Failure::new(ExitCode::Render, kind, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new([("PROXY_PORT", Some("9090")), ("PROXY_HOST", Some("::1")), ("TOKEN", None)])
    }

    fn failure(body: &str) -> String {
        let failure = evaluate(body, &names()).unwrap_err();
        format!("{} {} {failure}", failure.exit_code.number(), failure.kind)
    }

    #[test]
    fn scalars_become_text() {
        for (body, text) in [
            ("PROXY_PORT", "9090"),
            ("  PROXY_PORT  ", "9090"),
            ("PROXY_HOST ~ ':' ~ PROXY_PORT", "::1:9090"),
            ("1 + 1", "2"),
            ("'>>'", ">>"),
            ("true", "true"),
            ("'a' if PROXY_PORT == '9090' else 'b'", "a"),
        ] {
            assert_eq!(evaluate(body, &names()).unwrap(), text, "{body}");
        }
    }

    #[test]
    fn each_fault_has_its_text() {
        assert_eq!(
            failure("PROXY_PRT"),
            "21 unknown-name unknown name \"PROXY_PRT\" in a template\n hint: did you mean PROXY_PORT?"
        );
        assert_eq!(
            failure("nothing"),
            "21 unknown-name unknown name \"nothing\" in a template\n hint: known names: PROXY_HOST, PROXY_PORT, TOKEN"
        );
        assert_eq!(
            failure("TOKEN"),
            "20 unset-variable variable TOKEN has no value, and a template needs it\n hint: cargo xtask env explain TOKEN"
        );
        assert_eq!(
            failure(" "),
            "21 empty-token a token names nothing\n hint: write a name in it: <<PROXY_PORT>>"
        );
        for (body, kind) in [("{'a': 1}", "map"), ("[PROXY_PORT]", "sequence"), ("none", "none")] {
            assert_eq!(
                failure(body),
                format!(
                    "21 not-a-scalar a token yields {kind}, which is not text: {body:?}\n hint: only text, numbers and booleans can stand in a string"
                )
            );
        }
        assert!(
            failure("A B").starts_with("21 bad-expression a token is not a name or an expression: \"A B\"\n")
        );
        assert!(failure("%}").starts_with("21 bad-expression"));
        assert!(failure("1 // 0").starts_with("21 bad-expression a token cannot be evaluated: \"1 // 0\"\n"));
        assert!(failure("PROXY_PORT.x").starts_with("21 "), "{}", failure("PROXY_PORT.x"));
        // Undefined is an error wherever it appears, not only as the result.
        assert!(failure("PROXY_PORT.x ~ 'y'").starts_with("21 bad-expression"));
        assert!(
            failure("PROXY_PORT|upper").starts_with("21 bad-expression"),
            "{}",
            failure("PROXY_PORT|upper")
        );
        assert!(failure("PROXY_PORT()").starts_with("21 "), "{}", failure("PROXY_PORT()"));
    }
}
