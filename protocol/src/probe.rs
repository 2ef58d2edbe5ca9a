//! What is asked and what is found: probe kinds, slots, targets; states, reasons, causes, and the outcome that joins them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The kinds of probe. Their names are what `-f` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// ICMP echo (RFC 792, RFC 4443), or its stand-in by TCP where ICMP is not permitted.
    Ping,
    /// A TCP connect (RFC 9293 section 3.5).
    Tcp,
}

impl ProbeKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Ping, Self::Tcp];

    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing asked of every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Is there somebody?
    Ping,
    /// Is this TCP port open?
    Tcp(u16),
}

impl Slot {
    /// The kind of probe that answers it.
    #[must_use]
    pub const fn kind(self) -> ProbeKind {
        match self {
            Self::Ping => ProbeKind::Ping,
            Self::Tcp(_) => ProbeKind::Tcp,
        }
    }
}

/// One thing to find out: an address, and a port where the kind has ports. Orders by address, then slot, `ping` first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Whom to ask.
    pub address: IpAddr,
    /// What to ask.
    pub slot: Slot,
}

/// `192.0.2.11:22`, `[2001:db8::1]:22`, or the bare address where only life is asked.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.slot {
            Slot::Ping => self.address.fmt(f),
            Slot::Tcp(port) => SocketAddr::new(self.address, port).fmt(f),
        }
    }
}

macro_rules! named_codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $code:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$item_doc])* $item = $code,)* }

        impl $name {
            /// Every one, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$item),*];

            /// The name that users see.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$item => $text,)* }
            }

            const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$item),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named_codes! {
    /// What a target is found to be, in nmap's words. The codes are on the wire and on disk: they only grow.
    State {
        /// Nothing was found out; the cause says why.
        NotProbed = 0 "not-probed",
        /// A connection was accepted.
        Open = 1 "open",
        /// It was refused.
        Closed = 2 "closed",
        /// No answer, or an ICMP error.
        Filtered = 3 "filtered",
        /// The host answered.
        Up = 4 "up",
        /// It did not.
        Down = 5 "down",
    }
}

named_codes! {
    /// Why a target is in its state, in nmap's words (`portreasons.cc`). The codes only grow.
    Reason {
        /// The connection was accepted.
        SynAck = 1 "syn-ack",
        /// The connection was refused: RST, or ICMP port unreachable.
        ConnRefused = 2 "conn-refused",
        /// Nothing came within the timeout.
        NoResponse = 3 "no-response",
        /// ICMP host unreachable, or no answer to ARP or neighbour discovery.
        HostUnreach = 4 "host-unreach",
        /// ICMP network unreachable.
        NetUnreach = 5 "net-unreach",
        /// ICMP communication administratively prohibited.
        AdminProhibited = 6 "admin-prohibited",
        /// An ICMP echo reply.
        EchoReply = 7 "echo-reply",
        /// ICMP protocol unreachable.
        ProtoUnreach = 8 "proto-unreach",
        /// Another ICMP error.
        DestUnreach = 9 "dest-unreach",
    }
}

named_codes! {
    /// Why a target was not probed: a closed list (DESIGN.md "Causes"). The codes only grow.
    Cause {
        /// Its turn has not come.
        Pending = 1 "pending",
        /// The scan was interrupted.
        Interrupted = 2 "interrupted",
        /// The scan was cancelled.
        Cancelled = 3 "cancelled",
        /// No agent can or may reach it.
        NoAgent = 4 "no-agent",
        /// This machine has no route to it.
        NoRoute = 5 "no-route",
        /// This machine lacked descriptors, ports, buffers or memory.
        LocalLimit = 6 "local-limit",
        /// This machine refused to send.
        PermDenied = 7 "perm-denied",
        /// The prober failed on it, twice.
        InternalError = 8 "internal-error",
        /// Three agents died on it.
        AgentFailed = 9 "agent-failed",
        /// Its host was not found out about, so its ports were not asked.
        NoDiscovery = 10 "no-discovery",
        /// The agent's own allow-list does not allow it.
        OutOfScope = 11 "out-of-scope",
        /// It was excluded while the scan ran.
        Excluded = 12 "excluded",
        /// This machine's routes call it a broadcast address.
        Broadcast = 13 "broadcast",
    }
}

impl Cause {
    /// True for a cause that leaves the scan incomplete (exit code 3) and that `resume` tries again.
    #[must_use]
    pub const fn is_gap(self) -> bool {
        !matches!(self, Self::Excluded | Self::Broadcast)
    }
}

/// What happened to a probe: a state with its reason, or `not-probed` with its cause. Only pairs that make sense exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome(u8);

impl Outcome {
    /// The port accepted the connection.
    pub const OPEN: Self = Self::pair(State::Open, Reason::SynAck);
    /// The port refused it.
    pub const CLOSED: Self = Self::pair(State::Closed, Reason::ConnRefused);
    /// The port did not answer.
    pub const FILTERED: Self = Self::pair(State::Filtered, Reason::NoResponse);
    /// The host answered the echo request.
    pub const UP: Self = Self::pair(State::Up, Reason::EchoReply);
    /// The host did not answer.
    pub const DOWN: Self = Self::pair(State::Down, Reason::NoResponse);

    const REASON_BITS: u32 = 5;

    const fn pair(state: State, reason: Reason) -> Self {
        Self((state as u8) << Self::REASON_BITS | reason as u8)
    }

    /// A state with its reason. `None` for a pair that makes no sense, such as `open` by `no-response`.
    #[must_use]
    pub const fn found(state: State, reason: Reason) -> Option<Self> {
        use Reason as R;
        let fits = match state {
            State::NotProbed => false,
            State::Open => matches!(reason, R::SynAck),
            State::Closed => matches!(reason, R::ConnRefused),
            State::Up => matches!(reason, R::EchoReply | R::SynAck | R::ConnRefused),
            State::Filtered | State::Down => !matches!(reason, R::EchoReply | R::SynAck | R::ConnRefused),
        };
        if fits { Some(Self::pair(state, reason)) } else { None }
    }

    /// Not probed, and why.
    #[must_use]
    pub const fn not_probed(cause: Cause) -> Self {
        Self(cause as u8)
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> State {
        match State::from_code(self.0 >> Self::REASON_BITS) {
            Some(state) => state,
            None => State::NotProbed,
        }
    }

    /// The reason; `None` where nothing was found out.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self.state() {
            State::NotProbed => None,
            _ => Reason::from_code(self.0 & 31),
        }
    }

    /// The cause; `None` where something was found out.
    #[must_use]
    pub const fn cause(self) -> Option<Cause> {
        match self.state() {
            State::NotProbed => Cause::from_code(self.0 & 31),
            _ => None,
        }
    }

    /// The reason's or the cause's name.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match (self.reason(), self.cause()) {
            (Some(reason), _) => reason.as_str(),
            (None, Some(cause)) => cause.as_str(),
            (None, None) => "unknown",
        }
    }

    /// True if the host gave a sign of life: an accepted or refused connection, or an echo reply.
    #[must_use]
    pub const fn is_sign_of_life(self) -> bool {
        matches!(self.reason(), Some(Reason::SynAck | Reason::ConnRefused | Reason::EchoReply))
    }

    /// True for an open port or a live host: what is a finding.
    #[must_use]
    pub const fn is_finding(self) -> bool {
        matches!(self.state(), State::Open | State::Up)
    }

    /// True if probed without an answer: `no-response` and `host-unreach` count as one, silence.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(self.reason(), Some(Reason::NoResponse | Reason::HostUnreach))
    }

    /// True if a probe was made and told something, be it silence.
    #[must_use]
    pub const fn is_probed(self) -> bool {
        !matches!(self.state(), State::NotProbed)
    }

    /// The byte that stands for it on the wire and on disk: state in the upper three bits, reason or cause in the lower five.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The outcome that a byte stands for; `None` if it stands for none.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        let low = code & 31;
        match State::from_code(code >> Self::REASON_BITS) {
            None => None,
            Some(State::NotProbed) => match Cause::from_code(low) {
                Some(cause) => Some(Self::not_probed(cause)),
                None => None,
            },
            Some(state) => match Reason::from_code(low) {
                Some(reason) => Self::found(state, reason),
                None => None,
            },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.state(), self.why())
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_an_outcome_or_refused_and_no_two_share_one() {
        let mut known = 0;
        for code in 0..=u8::MAX {
            if let Some(outcome) = Outcome::from_code(code) {
                assert_eq!(outcome.code(), code);
                assert_ne!(outcome.reason().is_some(), outcome.cause().is_some());
                known += 1;
            }
        }
        // 13 causes, open and closed one each, up three, filtered and down six each.
        assert_eq!(known, 13 + 1 + 1 + 3 + 6 + 6);
    }

    #[test]
    fn a_state_never_comes_with_a_reason_that_contradicts_it() {
        assert_eq!(Outcome::found(State::Open, Reason::NoResponse), None);
        assert_eq!(Outcome::found(State::Filtered, Reason::ConnRefused), None);
        assert_eq!(Outcome::found(State::NotProbed, Reason::SynAck), None);
        assert!(Outcome::CLOSED.is_sign_of_life() && !Outcome::CLOSED.is_finding());
        assert!(Outcome::FILTERED.is_silence() && Outcome::FILTERED.is_probed());
        assert_eq!(Outcome::not_probed(Cause::LocalLimit).to_string(), "not-probed (local-limit)");
    }
}
