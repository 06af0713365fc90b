//! "Did you mean": the nearest of a few known names.

/// The candidate that differs least from `given`, if any is near enough to have been meant.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| distance(given, candidate);
    let best = candidates.into_iter().min_by_key(near)?;
    (distance(given, best) <= given.chars().count().max(best.chars().count()) / 2).then_some(best)
}

/// Levenshtein's distance: insertions, deletions and replacements of characters.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replace = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["install_server", "remove_server", "list_discovered_servers"];
        assert_eq!(nearest("instal_server", known), Some("install_server"));
        assert_eq!(nearest("list_servers", known), Some("list_discovered_servers"));
        assert_eq!(nearest("xyz", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
