//! Versions of toolchains: read out of what they say of themselves, and compared.

use std::fmt;

/// Numbers with dots between them. Compared number by number; what is left out counts as nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Vec<u64>);

impl Version {
    /// `20`, `3.10` or `1.26.8`; nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<_>>>().map(Self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

/// The version in what a program says when it is asked: `v20.20.2`, `go version go1.26.8 linux/amd64`, `Python 3.13.0rc1`.
pub fn reported(said: &str) -> Option<Version> {
    said.split_whitespace().find_map(|word| {
        let from = word.find(|c: char| c.is_ascii_digit())?;
        let numbers: Vec<u64> = word[from..]
            .split('.')
            .map_while(|part| {
                let digits = part.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse().ok()
            })
            .collect();
        // A number alone is no version: the 64 of amd64.
        (numbers.len() > 1).then_some(Version(numbers))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("v20.20.2\n", "20.20.2"),
            ("Python 3.11.7", "3.11.7"),
            ("Python 3.15.0rc1", "3.15.0"),
            ("go version go1.26.8 linux/amd64", "1.26.8"),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "1.95.0"),
        ] {
            assert_eq!(reported(said).map(|version| version.to_string()).as_deref(), Some(version), "{said}");
        }
        assert_eq!(reported("command not found on amd64"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("3.9") < version("3.10") && version("20") < version("20.1"));
        assert!(version("20.20.2") >= version("20"));
        assert!(["", "20.", "v20", "20.x"].iter().all(|text| Version::parse(text).is_none()));
    }
}
