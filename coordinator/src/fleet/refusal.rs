//! Why somebody at the agent port got nothing: a closed list, each counted, and audited once per peer, kind and minute.

use std::fmt;

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What came first was no TLS.
    NoTls,
    /// The handshake failed: another version, no common cipher, another protocol name.
    Handshake,
    /// The client's certificate is not one that this authority made, or not in time.
    Certificate,
    /// It took too long.
    TooSlow,
    /// Too many that are not known yet.
    TooMany,
    /// A link needs a certificate, and there was none.
    NoCertificate,
    /// Its certificate names an agent that is not on the roster.
    UnknownAgent,
    /// It was revoked.
    Revoked,
    /// Its key is in two places.
    Copied,
    /// A frame was too long, or held no message that is known.
    Frame,
    /// It said what its state does not allow.
    Protocol,
    /// Its protocol versions and ours do not meet.
    Versions,
    /// An agent refused what it was granted: outside its allow-list, or out of bounds.
    Grant,
    /// Hello says another name than the certificate's agent has.
    Identity,
    /// The token is not one of ours.
    Token,
    /// The token was used before.
    TokenUsed,
    /// The token's time is over.
    TokenExpired,
    /// The chosen name is another agent's.
    NameTaken,
    /// The request for a certificate is not sound, or its key of a kind that is not taken.
    Request,
}

impl Kind {
    /// Its name in the audit and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoTls => "no-tls",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::TooSlow => "too-slow",
            Self::TooMany => "too-many",
            Self::NoCertificate => "no-certificate",
            Self::UnknownAgent => "unknown-agent",
            Self::Revoked => "revoked",
            Self::Copied => "copied-key",
            Self::Frame => "frame",
            Self::Protocol => "protocol",
            Self::Versions => "versions",
            Self::Grant => "grant",
            Self::Identity => "identity",
            Self::Token => "token",
            Self::TokenUsed => "token-used",
            Self::TokenExpired => "token-expired",
            Self::NameTaken => "name-taken",
            Self::Request => "request",
        }
    }
}

/// One refusal: its kind, and what is told, one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub kind: Kind,
    /// Why, and what mends it.
    pub reason: String,
}

impl Refusal {
    /// A refusal with what is told.
    #[must_use]
    pub fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
