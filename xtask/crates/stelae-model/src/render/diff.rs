//! Line differences, as `diff -u` prints them.

use similar::TextDiff;

/// The unified diff between two texts; empty if they are equal.
pub fn unified_diff(old_name: &str, old: &str, new_name: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    TextDiff::from_lines(old, new).unified_diff().context_radius(3).header(old_name, new_name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_unified_and_equality_is_empty() {
        assert_eq!(unified_diff("a", "1\n2\n", "b", "1\n3\n"), "--- a\n+++ b\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n");
        assert_eq!(unified_diff("a", "1\n", "b", "1\n"), "");
    }
}
