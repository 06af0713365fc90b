//! JSON values, compared as values.

use serde_json::{Number, Value};

/// Whether two values are the same. Numbers are compared by value and not by how they are written: 3, 3.0 and 3e0 are the same.
/// Integers of up to 64 bits are exact; longer ones are what a double makes of them.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => same_number(one, other),
        (Value::Array(ones), Value::Array(others)) => {
            ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other))
        }
        (Value::Object(ones), Value::Object(others)) => {
            let has = |(name, one): (&String, &Value)| others.get(name).is_some_and(|other| same(one, other));
            ones.len() == others.len() && ones.iter().all(has)
        }
        _ => one == other,
    }
}

fn same_number(one: &Number, other: &Number) -> bool {
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        _ => false,
    }
}

/// The number, if it is a whole one.
fn integer(number: &Number) -> Option<i128> {
    let exact = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    exact.or_else(|| {
        let float = number.as_f64()?;
        // Beyond 2^100 a double is compared as one.
        #[expect(clippy::cast_possible_truncation, reason = "it is whole, and far from the end of the type")]
        (float.fract() == 0.0 && float.abs() < 1e30).then_some(float as i128)
    })
}

/// What TOML writes a date as, when it becomes JSON.
const DATE: &str = "$__toml_private_datetime";

/// What JSON does not have and TOML does, somewhere in a value: `nan`, `inf`, a date.
pub(crate) fn fault_of_value(value: &Value) -> Option<(String, &'static str)> {
    match value {
        // TOML has no null: this was a float that JSON has no word for.
        Value::Null => Some(("`nan` and `inf` are no values of JSON".to_owned(), "write a number")),
        Value::Object(members) if members.contains_key(DATE) => {
            Some(("a date is no value of JSON".to_owned(), "write it as a text, in quotes"))
        }
        Value::Object(members) => members.values().find_map(fault_of_value),
        Value::Array(items) => items.iter().find_map(fault_of_value),
        _ => None,
    }
}
