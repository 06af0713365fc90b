//! The name of a server: one rule, wherever a name is given (bundle, overlay, discovery, installation, `proxy.json`).
//!
//! It becomes a file name, a label in logs and a part of the names that agents see: `mcp__NAME__tool`. So two underscores end
//! it, and Codex takes every character but letters, digits and the underscore for an underscore.

/// Characters of the longest name.
const LONGEST: usize = 64;
/// The gateway's own label in its log: a server's lines must not look like the gateway's.
const RESERVED: [&str; 1] = ["gateway"];

/// Checks the name of a server.
///
/// # Errors
/// Why it cannot be one, and a name that could.
pub fn check(name: &str) -> Result<(), String> {
    let Some(why) = fault(name) else { return Ok(()) };
    let shown: String = name.chars().take(LONGEST).collect();
    let suggested = suggestion(name).map(|better| format!("; {better:?} could be one")).unwrap_or_default();
    Err(format!("server name {shown:?} {why}{suggested}"))
}

/// Checks all servers of one stack against each other.
///
/// # Errors
/// The first two names that are one for a file system without upper and lower case, or for an agent.
pub fn check_all<'n>(names: impl Iterator<Item = &'n str>) -> Result<(), String> {
    let mut seen = std::collections::BTreeMap::new();
    for name in names {
        check(name)?;
        if let Some(other) = seen.insert(reduced(name), name) {
            return Err(same(other, name));
        }
    }
    Ok(())
}

/// Whether two different names are one for a file system without upper and lower case, or for an agent.
pub fn collide(one: &str, other: &str) -> bool {
    reduced(one) == reduced(other)
}

/// Why two names collide, as a sentence.
pub fn same(one: &str, other: &str) -> String {
    format!(
        "servers {one:?} and {other:?} differ only in upper and lower case, dashes or underscores: agents and file systems take them for one"
    )
}

fn reduced(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn fault(name: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() {
        return Some("is empty".to_owned());
    }
    if let Some(c) = name.chars().find(|&c| !allowed(c)) {
        return Some(format!("is not [A-Za-z0-9_-]{{1,{LONGEST}}}: {c:?} is none of these"));
    }
    if name.len() > LONGEST {
        return Some(format!("is not [A-Za-z0-9_-]{{1,{LONGEST}}}: it has {} characters", name.len()));
    }
    if reduced(name).contains("__") {
        let why = "has two underscores in a row (a dash counts as one for an agent): those stand between a server's name and its tool's";
        return Some(why.to_owned());
    }
    let edge = |c: char| c == '_' || c == '-';
    if name.starts_with(edge) || name.ends_with(edge) {
        return Some("starts or ends with a dash or an underscore".to_owned());
    }
    RESERVED.contains(&reduced(name).as_str()).then(|| "is what the gateway itself is called".to_owned())
}

/// The nearest name that can be one.
fn suggestion(name: &str) -> Option<String> {
    let mut better = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() {
            c
        } else if c == '_' {
            '_'
        } else {
            '-'
        };
        let edge = |c: char| c == '_' || c == '-';
        if !(edge(c) && better.chars().next_back().is_none_or(edge)) {
            better.push(c);
        }
    }
    better.truncate(LONGEST);
    let better = better.trim_end_matches(['-', '_']).to_owned();
    let better = if RESERVED.contains(&reduced(&better).as_str()) { better + "-server" } else { better };
    (!better.is_empty() && fault(&better).is_none()).then_some(better)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_go_wrong_later_is_refused_with_one_that_would_not() {
        for (name, why, better) in [
            ("a__b", "two underscores", "a_b"),
            ("a_-b", "two underscores", "a_b"),
            ("a--b", "two underscores", "a-b"),
            ("-a", "starts or ends", "a"),
            ("a_", "starts or ends", "a"),
            ("__", "two underscores", ""),
            ("", "is empty", ""),
            (".", "none of these", ""),
            ("..", "none of these", ""),
            ("../../etc/x", "none of these", "etc-x"),
            (".hidden", "none of these", "hidden"),
            ("a.b", "none of these", "a-b"),
            ("a/b", "none of these", "a-b"),
            ("a\\b", "none of these", "a-b"),
            ("a b", "none of these", "a-b"),
            ("a\0", "none of these", "a"),
            ("a\n[gateway] ready", "none of these", "a-gateway-ready"),
            // Cyrillic а, Greek ο, a full-width letter, a letter with a mark, a joiner.
            ("\u{430}bc", "none of these", "bc"),
            ("t\u{3bf}ol", "none of these", "t-ol"),
            ("\u{ff41}", "none of these", ""),
            ("e\u{301}", "none of these", "e"),
            ("a\u{200d}b", "none of these", "a-b"),
            ("gateway", "gateway itself", "gateway-server"),
            ("Gateway", "gateway itself", "Gateway-server"),
        ] {
            let said = check(name).unwrap_err();
            assert!(said.contains(why), "{name:?}: {said}");
            assert_eq!(suggestion(name).unwrap_or_default(), better, "{name:?}: {said}");
            assert_eq!(said.contains("could be one"), !better.is_empty(), "{said}");
        }
        let long = check(&"a".repeat(65)).unwrap_err();
        assert!(long.contains("it has 65 characters") && long.len() < 250, "{long}");
        assert!(check(&"ü".repeat(1_000_000)).unwrap_err().len() < 500);
        for name in ["a", "A-1_b", "0", "memory", &"a".repeat(64)] {
            assert_eq!(check(name), Ok(()));
        }
    }

    #[test]
    fn names_that_an_agent_or_a_file_system_takes_for_one_are_refused() {
        for (one, other) in [("a-b", "a_b"), ("Stelae", "stelae"), ("A_b", "a-B")] {
            let said = check_all([one, other].into_iter()).unwrap_err();
            assert!(said.contains(one) && said.contains(other), "{said}");
            assert!(collide(one, other));
        }
        assert_eq!(check_all(["ab", "a-b", "b"].into_iter()), Ok(()));
    }
}
