//! How much memory a message takes, before it is read and after.
//!
//! Text of JSON becomes many times as long when it is read: each value of `[0,0,0]` takes two bytes before, and up to
//! [`VALUE_BYTES`] after.

use serde_json::Value;

/// What a value takes beside its text.
pub(super) const VALUE_BYTES: usize = 72;

/// How many values there are in this text, at the most; whether it is JSON is not looked at.
pub(super) fn values(text: &[u8]) -> usize {
    let (mut values, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b':' | b'[' | b'{' if !quoted => values += 1,
            _ => {}
        }
    }
    values
}

/// What a value takes, about.
pub(super) fn of(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(all) => all.iter().map(of).sum(),
            Value::Object(all) => all.iter().map(|(key, value)| key.len() + of(value)).sum(),
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_value_is_left_out_and_what_is_quoted_is_none() {
        for (text, at_least, at_most) in [
            (r#"[0,0,0]"#, 4, 4),
            (r#"{"a":[{},[]],"b":"[[[,,,:::"}"#, 5, 9),
            (r#""a\"[,\\""#, 1, 1),
            ("", 0, 1),
        ] {
            assert!(
                (at_least..=at_most).contains(&values(text.as_bytes())),
                "{text}: {}",
                values(text.as_bytes())
            );
        }
        assert!(values(&b"[".repeat(1_000)) >= 1_000);
    }

    #[test]
    fn long_texts_and_many_values_both_weigh() {
        assert!(of(&json!("x".repeat(1_000))) >= 1_000);
        assert!(of(&json!([[0, 0], {"a": 0}])) >= 6 * VALUE_BYTES);
    }
}
