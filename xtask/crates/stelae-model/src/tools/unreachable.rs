//! Whether an installer failed because there is no network.

/// What installers and the libraries below them say when nobody answers: name resolution and connections, of npm, pip, go
/// and cargo. Nothing that a registry answers is among them.
const SAYINGS: &[&str] = &[
    "eai_again",
    "enotfound",
    "econnrefused",
    "enetunreach",
    "ehostunreach",
    "etimedout",
    "name resolution",
    "name or service not known",
    "no such host",
    "could not resolve host",
    "couldn't resolve host",
    "connection refused",
    "network is unreachable",
    "no route to host",
    "failed to connect to",
    "i/o timeout",
    "newconnectionerror",
];

/// Whether the last lines of an installer say that its registry could not be reached. A guess, from words: it
/// decides between "go online" and "look at the log", and whether `ci` skips what needs the tool, which it says.
pub fn is_unreachable<'a>(tail: impl IntoIterator<Item = &'a str>) -> bool {
    tail.into_iter().any(|line| {
        let line = line.to_ascii_lowercase();
        SAYINGS.iter().any(|saying| line.contains(saying))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_is_told_from_an_answer() {
        for line in [
            "npm error code EAI_AGAIN",
            "WARNING: Retrying ... NewConnectionError('<...>: [Errno -3] Temporary failure in name resolution')",
            "go: example.com/m@v1: Get \"…\": dial tcp: lookup proxy.invalid: no such host",
            "  [6] Could not resolve hostname (Could not resolve host: index.invalid)",
        ] {
            assert!(is_unreachable(["first", line]), "{line}");
        }
        for line in
            ["npm error code EINTEGRITY", "npm error 404 Not Found", "ERROR: No matching distribution", "403"]
        {
            assert!(!is_unreachable([line]), "{line}");
        }
    }
}
