//! What this machine gives a scan, as it says itself: limits, permissions, and what stands under `/proc/sys/net`.

use portsweep_agent::privilege::{Access, PingAccess};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs;
use std::path::Path;

/// What was read. Nothing here needs a privilege, and nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many files may be open: the soft limit and the hard one.
    pub descriptors: Option<(u64, u64)>,
    /// Whether TCP sockets open, for IPv4 and for IPv6.
    pub connects: [bool; 2],
    /// Whether ICMP echo is permitted, for IPv4 and for IPv6.
    pub pings: [Access; 2],
    /// The ports that connections start from, both included. IPv6 uses them too.
    pub ports: Option<(u16, u16)>,
    /// The largest receive buffer that a socket may ask for, in bytes.
    pub buffer_bytes_max: Option<u64>,
    /// Entries of the table of connections, used and at most; `None` where no such table is kept.
    pub conntrack: Option<(u64, u64)>,
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn read() -> Self {
        let connects =
            [Domain::IPV4, Domain::IPV6].map(|domain| Socket::new(domain, Type::STREAM, Some(Protocol::TCP)).is_ok());
        let [ports, buffer_bytes_max, conntrack] =
            ["ipv4", "core", "netfilter"].map(|part| Path::new("/proc/sys/net").join(part));
        Self {
            descriptors: rlimit::Resource::NOFILE.get().ok(),
            connects,
            pings: PingAccess::by_version(),
            ports: range(&read(&ports.join("ip_local_port_range"))),
            buffer_bytes_max: number(&read(&buffer_bytes_max.join("rmem_max"))),
            conntrack: number(&read(&conntrack.join("nf_conntrack_count")))
                .zip(number(&read(&conntrack.join("nf_conntrack_max")))),
        }
    }
}

/// What cannot be read says nothing.
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut words = text.split_whitespace().map(str::parse);
    match (words.next(), words.next(), words.next()) {
        (Some(Ok(low)), Some(Ok(high)), None) if low <= high => Some((low, high)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_the_kernel_writes_them() {
        assert_eq!(range("32768\t60999\n"), Some((32_768, 60_999)));
        for wrong in ["", "1", "2 1", "1 2 3", "a b", "0 70000"] {
            assert_eq!(range(wrong), None, "{wrong:?}");
        }
        assert_eq!(number("212992\n"), Some(212_992));
        assert_eq!(number(""), None);
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert!(machine.descriptors.is_some_and(|(soft, hard)| soft <= hard), "{machine:?}");
        #[cfg(target_os = "linux")]
        assert!(machine.ports.is_some(), "{machine:?}");
    }
}
