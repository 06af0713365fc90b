//! Whether a URI can have come from a URI template. Pure.

/// How much of `uri` is prescribed by `template` (RFC 6570), in bytes; `None` if it cannot have come from it.
///
/// Expressions stand for anything that is not empty: which server is asked is all that hangs on this, and that server
/// knows better what it meant.
pub(super) fn fits(template: &str, uri: &str) -> Option<usize> {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, expression)) = rest.split_once('{') {
        literals.push(literal);
        rest = expression.split_once('}')?.1;
    }
    let prescribed = literals.iter().map(|literal| literal.len()).sum::<usize>() + rest.len();
    let Some((first, middle)) = literals.split_first() else {
        return (uri == template).then_some(prescribed);
    };
    let mut left = uri.strip_prefix(first)?.strip_suffix(rest)?;
    for literal in middle {
        // The shortest piece that an expression can stand for: what comes after it has the most to choose from.
        let after_first = left.char_indices().nth(1).map(|(at, _)| at)?;
        let at = left.get(after_first..)?.find(literal)? + after_first;
        left = left.get(at + literal.len()..)?;
    }
    (!left.is_empty()).then_some(prescribed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_have_come_from_a_template_fits() {
        for (template, uri, prescribed) in [
            ("test://template/{id}/data", "test://template/7/data", Some(21)),
            ("test://template/{id}/data", "test://template//data", None),
            ("test://template/{id}/data", "test://template/7/date", None),
            ("file:///{+path}", "file:///a/b/c", Some(8)),
            ("{a}-{b}", "x-y", Some(1)),
            ("{a}-{b}", "-y", None),
            ("{a}-{b}", "x-", None),
            ("{a}", "ä", Some(0)),
            ("a{b", "a{b", None),
            ("plain://x", "plain://x", Some(9)),
            ("plain://x", "plain://y", None),
        ] {
            assert_eq!(fits(template, uri), prescribed, "{template} {uri}");
        }
    }
}
