//! "Did you mean": the nearest known name, when one is near.

/// The known name nearest to `name`, if it is at most a third of its length away (Levenshtein, case ignored).
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    let limit = (wanted.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&wanted, &candidate.to_ascii_lowercase()), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace a byte) that lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &byte) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &other) in b.iter().enumerate() {
            let replace = diagonal + usize::from(byte != other);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let known = ["PROXY_PORT", "PUBLIC_PORT", "STELAE_ROOT"];
        assert_eq!(nearest("PROXY_PROT", known), Some("PROXY_PORT"));
        assert_eq!(nearest("proxy_port", known), Some("PROXY_PORT"));
        assert_eq!(nearest("DATABASE_URL", known), None);
    }
}
