//! May this process send ICMP echo requests? It tries to open the sockets that the prober would use, and sends nothing.

use protocol::message::PingMethod;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;

/// What opening a socket of one IP version gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A raw or a ping socket opens.
    Permitted,
    /// Both are refused for lack of a permission.
    Refused,
    /// This machine does not speak that version, or lacks something else: permissions would change nothing.
    Absent,
}

/// How hosts are asked for life here, and what would mend it where that is not ICMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingAccess {
    /// The method.
    pub method: PingMethod,
    /// One line for a person: which setting permits ICMP. `None` where it is permitted.
    pub advice: Option<String>,
}

impl PingAccess {
    /// Finds out by opening sockets, which are closed at once.
    #[must_use]
    pub fn detect() -> Self {
        let [v4, v6] = Self::by_version();
        Self::from_access(v4, v6)
    }

    /// What opening them gives, for IPv4 and for IPv6.
    #[must_use]
    pub fn by_version() -> [Access; 2] {
        [access(Domain::IPV4, Protocol::ICMPV4), access(Domain::IPV6, Protocol::ICMPV6)]
    }

    fn from_access(v4: Access, v6: Access) -> Self {
        // One setting rules both versions, so one version that is refused means that the setting is off.
        if v4 == Access::Refused || v6 == Access::Refused {
            let advice = "ICMP is not permitted here, so hosts are asked by TCP connects to ports 443 and 80: \
                          `sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"` permits it (or root, or \
                          `setcap cap_net_raw+ep` on this program)";
            return Self { method: PingMethod::Tcp, advice: Some(advice.to_owned()) };
        }
        Self { method: PingMethod::Icmp, advice: None }
    }
}

fn access(domain: Domain, protocol: Protocol) -> Access {
    let attempts = [Type::RAW, Type::DGRAM].map(|kind| Socket::new(domain, kind, Some(protocol)));
    classify(&attempts.map(|attempt| attempt.map(drop)))
}

fn classify(attempts: &[io::Result<()>]) -> Access {
    if attempts.iter().any(Result::is_ok) {
        return Access::Permitted;
    }
    let refused =
        |attempt: &io::Result<()>| matches!(attempt, Err(error) if error.kind() == io::ErrorKind::PermissionDenied);
    if attempts.iter().any(refused) { Access::Refused } else { Access::Absent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(code: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(code))
    }

    #[test]
    fn one_socket_that_opens_is_enough_and_a_machine_without_the_version_is_not_refused() {
        assert_eq!(classify(&[errno(libc::EPERM), Ok(())]), Access::Permitted);
        assert_eq!(classify(&[Ok(()), errno(libc::EACCES)]), Access::Permitted);
        assert_eq!(classify(&[errno(libc::EPERM), errno(libc::EACCES)]), Access::Refused);
        assert_eq!(classify(&[errno(libc::EAFNOSUPPORT), errno(libc::EAFNOSUPPORT)]), Access::Absent);
        assert_eq!(classify(&[errno(libc::EMFILE), errno(libc::EMFILE)]), Access::Absent);
    }

    #[test]
    fn where_icmp_is_refused_one_line_says_which_setting_mends_it() {
        let refused = PingAccess::from_access(Access::Refused, Access::Refused);
        assert_eq!(refused.method, PingMethod::Tcp);
        let advice = refused.advice.unwrap();
        assert!(advice.contains("net.ipv4.ping_group_range=\"0 2147483647\"") && !advice.contains('\n'), "{advice}");
        for (v4, v6) in [(Access::Permitted, Access::Permitted), (Access::Permitted, Access::Absent)] {
            assert_eq!(PingAccess::from_access(v4, v6), PingAccess { method: PingMethod::Icmp, advice: None });
        }
    }
}
