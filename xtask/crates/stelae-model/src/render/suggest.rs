//! "Did you mean": the known name nearest to what was typed.

/// The candidate with the fewest edits from `typed`, if it is near enough to be what was meant.
pub fn nearest<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = (typed.chars().count() + 1) / 3;
    candidates
        .into_iter()
        .map(|candidate| (distance(&typed.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let edited = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], edited);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_not() {
        let known = ["PROXY_HOST", "PROXY_PORT", "PUBLIC_PORT"];
        assert_eq!(nearest("PROXY_PRT", known), Some("PROXY_PORT"));
        assert_eq!(nearest("proxy_port", known), Some("PROXY_PORT"));
        assert_eq!(nearest("PROXYPORT", known), Some("PROXY_PORT"));
        assert_eq!(nearest("HOME", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
