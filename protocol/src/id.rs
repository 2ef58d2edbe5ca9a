//! Identities: scans, agents and their instances, epochs. Each is a newtype, so that none is taken for another.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A scan's identity: a UUID (version 7 where we make it, RFC 9562 section 5.7), so that ids sort by their time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScanId(#[serde(with = "serde_bytes")] [u8; 16]);

impl ScanId {
    /// From the sixteen bytes of a UUID.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen bytes of the UUID.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no scan id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scan id is 32 hexadecimal digits, as `portsweep scans` prints them")]
pub struct ScanIdError;

impl FromStr for ScanId {
    type Err = ScanIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|&byte| byte != b'-')
            .take(33)
            .map(|byte| char::from(byte).to_digit(16).map(|digit| u8::try_from(digit).unwrap_or(0)).ok_or(ScanIdError))
            .collect::<Result<_, _>>()?;
        if digits.len() != 32 {
            return Err(ScanIdError);
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(bytes))
    }
}

/// One process of one agent: a nonce drawn at each start of the process. Leases and shares belong to it, not to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(u64);

impl InstanceId {
    /// From the nonce that the process drew.
    #[must_use]
    pub const fn new(nonce: u64) -> Self {
        Self(nonce)
    }

    /// The nonce.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease's number, rising over the whole store: the fencing token. A commit counts only while its epoch is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    /// From its number; the first lease of a store has 1.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one. Saturates: 2^64 leases do not happen.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of bytes that an agent's name may have.
pub const AGENT_NAME_BYTES_MAX: usize = 64;

/// An agent's name: 1 to 64 bytes of letters, digits, `.`, `-` and `_`, so that it can be shown anywhere as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentName(String);

/// A text that cannot be an agent's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an agent's name is 1 to 64 letters, digits, '.', '-' and '_'")]
pub struct AgentNameError;

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AgentName {
    type Error = AgentNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = (1..=AGENT_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if fits { Ok(Self(name)) } else { Err(AgentNameError) }
    }
}

impl From<AgentName> for String {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_id_survives_its_text() {
        let id = ScanId::from_bytes(*b"\x01\x93\x45\x67\x89\xab\x7c\xde\x8f\x01\x23\x45\x67\x89\xab\xcd");
        assert_eq!(id.to_string(), "01934567-89ab-7cde-8f01-23456789abcd");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("0193".parse::<ScanId>(), Err(ScanIdError));
        assert_eq!("x".repeat(32).parse::<ScanId>(), Err(ScanIdError));
        assert_eq!("0".repeat(1 << 20).parse::<ScanId>(), Err(ScanIdError));
    }

    #[test]
    fn an_agent_name_is_short_and_plain() {
        for name in ["", "a b", "a\u{1b}[2J", "ä", &"a".repeat(65)] {
            assert_eq!(AgentName::try_from(name.to_owned()), Err(AgentNameError), "{name:?}");
        }
        assert_eq!(AgentName::try_from("lab-1.a_B".to_owned()).unwrap().as_str(), "lab-1.a_B");
    }
}
