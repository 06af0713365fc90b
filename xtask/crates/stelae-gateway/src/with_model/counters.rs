//! What the kernel counts in a network namespace: attempts to reach somebody that no route leads to.
//!
//! Measured on Linux 6.18, in a namespace with loopback only:
//!
//! | attempt | counter |
//! | --- | --- |
//! | TCP or UDP to another host, multicast, broadcast; blocking or not; `connect` of a UDP socket | `Ip: OutNoRoutes`, 1 each |
//! | the same over IPv6 | `Ip6OutNoRoutes`, 1 each |
//! | one `getaddrinfo`, resolver elsewhere | `Ip: OutNoRoutes`, 2 |
//! | one `getaddrinfo`, resolver on loopback | `Udp: NoPorts`, 4 |
//! | a refused TCP connection to loopback, names out of `/etc/hosts`, raising loopback | none of them |
//! | a raw socket (ICMP), which takes a privilege | none: it fails, and is not seen |
//!
//! What daemons of the machine do for the program over unix sockets is not seen either (a resolver behind `nsswitch.conf`).

use stelae_run::files::kernel_text;

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    /// `Ip: OutNoRoutes` and `Ip6OutNoRoutes`.
    pub(super) no_route: u64,
    /// `Udp: NoPorts` and `Udp6NoPorts`.
    pub(super) lookups: u64,
}

impl Counters {
    /// Those of the namespace in which this process is; nothing where they cannot be read.
    pub(super) fn read() -> Option<Self> {
        let snmp = kernel_text("/proc/self/net/snmp").ok()?;
        // A kernel without IPv6 has no such file, and counts nothing that it cannot do.
        Self::parse(&snmp, &kernel_text("/proc/self/net/snmp6").unwrap_or_default())
    }

    /// How many have come since.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            no_route: self.no_route.saturating_sub(before.no_route),
            lookups: self.lookups.saturating_sub(before.lookups),
        }
    }

    fn parse(snmp: &str, snmp6: &str) -> Option<Self> {
        Some(Self {
            no_route: of_table(snmp, "Ip:", "OutNoRoutes")? + of_list(snmp6, "Ip6OutNoRoutes"),
            lookups: of_table(snmp, "Udp:", "NoPorts")? + of_list(snmp6, "Udp6NoPorts"),
        })
    }
}

/// In `snmp` a protocol has two lines: its names, then its numbers.
fn of_table(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut columns = names.split_whitespace().zip(numbers.split_whitespace());
    columns.find(|column| column.0 == name)?.1.parse().ok()
}

/// In `snmp6` a counter has a line.
fn of_list(text: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
    lines.find(|line| line.0 == name).and_then(|line| line.1.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Ip: Forwarding OutDiscards OutNoRoutes\nIp: 2 9 3\nIcmp: InMsgs\nIcmp: 7\n\
        Udp: InDatagrams NoPorts\nUdp: 5 4\nUdpLite: InDatagrams NoPorts\nUdpLite: 70 80\n";
    const SNMP6: &str =
        "Ip6OutDiscards                  \t9\nIp6OutNoRoutes                  \t10\nUdp6NoPorts  \t20\n";

    #[test]
    fn both_families_are_counted_together() {
        assert_eq!(Counters::parse(SNMP, SNMP6), Some(Counters { no_route: 13, lookups: 24 }));
        assert_eq!(Counters::parse(SNMP, ""), Some(Counters { no_route: 3, lookups: 4 }));
    }

    #[test]
    fn what_was_counted_before_does_not_count() {
        let (before, now) = (Counters { no_route: 3, lookups: 4 }, Counters { no_route: 13, lookups: 4 });
        assert_eq!(now.since(before), Counters { no_route: 10, lookups: 0 });
    }

    #[test]
    fn what_does_not_read_as_it_should_is_not_nought() {
        assert_eq!(Counters::parse("", SNMP6), None);
        assert_eq!(Counters::parse(&SNMP.replace("OutNoRoutes", "Others"), SNMP6), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_kernel_has_them() {
        assert!(Counters::read().is_some());
    }
}
