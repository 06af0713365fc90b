//! JSON Merge Patch, RFC 7396, on trees that keep their places.

use super::{Node, Tree};

/// `MergePatch(Target, Patch)` of RFC 7396: objects merge, `null` removes, everything else replaces.
///
/// What stays keeps its order, what is new comes after it, and each part keeps the place of the file that gave it.
#[must_use]
pub fn merge_patch<'s>(target: Option<Node<'s>>, patch: Node<'s>) -> Node<'s> {
    let Tree::Object(changes) = patch.tree else { return patch };
    // A target that is no object counts as an empty one, and then the patch is what gave the result.
    let (mut members, source, span) = match target {
        Some(Node { tree: Tree::Object(members), source, span }) => (members, source, span),
        _ => (Vec::new(), patch.source, patch.span),
    };
    for (key, change) in changes {
        let found = members.iter().position(|(known, _)| known.text == key.text);
        match (found, change.is_null()) {
            (Some(index), true) => drop(members.remove(index)),
            (None, true) => {}
            (Some(index), false) => {
                let (known, old) = members.remove(index);
                members.insert(index, (known, merge_patch(Some(old), change)));
            }
            (None, false) => members.push((key, merge_patch(None, change))),
        }
    }
    Node { tree: Tree::Object(members), source, span }
}

#[cfg(test)]
mod tests {
    use super::super::{Source, parse_json};
    use super::*;

    fn merged(target: &str, patch: &str) -> String {
        let (target, patch) = (Source::new("target", target), Source::new("patch", patch));
        merge_patch(Some(parse_json(&target).unwrap()), parse_json(&patch).unwrap()).to_value().to_string()
    }

    #[test]
    fn the_whole_table_of_rfc_7396_appendix_a() {
        let table = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (target, patch, result) in table {
            assert_eq!(merged(target, patch), result, "{target} + {patch}");
        }
    }

    #[test]
    fn order_is_the_targets() {
        assert_eq!(merged(r#"{"z":1,"a":2,"m":3}"#, r#"{"b":0,"a":9}"#), r#"{"z":1,"a":9,"m":3,"b":0}"#);
    }

    #[test]
    fn parts_keep_the_place_of_the_file_that_gave_them() {
        let target = Source::new("target", r#"{"a": {"b": 1}}"#);
        let patch = Source::new("patch", "{\"a\":\n {\"c\": 2}}");
        let result = merge_patch(Some(parse_json(&target).unwrap()), parse_json(&patch).unwrap());
        let a = result.get("a").unwrap();
        assert_eq!(a.get("b").unwrap().place().to_string(), "target:1:13");
        assert_eq!(a.get("c").unwrap().place().to_string(), "patch:2:8");
    }
}
