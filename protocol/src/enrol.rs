//! Enrolment: how an agent gets its certificate, and renews it. One request and one answer on a connection of their own, which the
//! protocol name in its TLS handshake ([`ENROL`]) tells from the link ([`LINK`]).
//!
//! Without a certificate an agent may only [`Join`]; with one it may only renew it.

use crate::id::AgentName;
use crate::message::{bounded_list, bounded_text};
use crate::version::VersionRange;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The protocol name (ALPN) of the agent link.
pub const LINK: &[u8] = b"portsweep-link";
/// The protocol name (ALPN) of enrolment.
pub const ENROL: &[u8] = b"portsweep-enrol";
/// The name that the coordinator's certificate has, wherever it is reached: who it is follows from its authority, not from its address.
pub const COORDINATOR_NAME: &str = "coordinator.portsweep";
/// What stands before an agent's id in its certificate (the one URI among its names).
pub const AGENT_URI: &str = "urn:portsweep:agent:";
/// The longest frame of enrolment, in bytes: who is not known yet gets no more memory than that.
pub const ENROL_BYTES_MAX: usize = 16 << 10;
/// The most labels that an agent has.
pub const LABELS_MAX: usize = 32;
/// The longest certificate or request for one, in bytes.
const DER_BYTES_MAX: usize = 8 << 10;

/// An agent's identity: drawn when it joins, in its certificate from then on. Its name is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AgentId(u64);

impl AgentId {
    /// From its number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no agent's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an agent's id is 16 hexadecimal digits")]
pub struct AgentIdError;

impl FromStr for AgentId {
    type Err = AgentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        let number = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        number.map(Self).ok_or(AgentIdError)
    }
}

/// What an agent is labelled with: `key=value`. Key and value are like an agent's name; the value may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label {
    key: String,
    value: String,
}

/// A text that is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a label is key=value, each up to 64 letters, digits, '.', '-' and '_'")]
pub struct LabelError;

impl Label {
    /// What is said of the agent.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it is.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let (key, value) = text.split_once('=').ok_or(LabelError)?;
        let plain = |text: &str| AgentName::try_from(text.to_owned()).is_ok();
        if !plain(key) || !(value.is_empty() || plain(value)) {
            return Err(LabelError);
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.to_string()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// From an agent that wants a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolRequest {
    /// Its first, with a token.
    Join(Join),
    /// The next, on a connection that the present one opened.
    Renew {
        /// A request for a certificate (PKCS #10, DER): the key, and the proof that it is the agent's.
        #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "bounded_der")]
        request: Vec<u8>,
    },
}

/// What an agent says to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The protocol versions that it speaks.
    pub versions: VersionRange,
    /// The secret of its token.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; crate::token::SECRET_BYTES],
    /// What it would be called.
    pub name: AgentName,
    /// Whether somebody chose that name: it is then taken as it is, or refused.
    pub name_chosen: bool,
    /// The place in the network it sees from; its name, where nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<AgentName>,
    /// Its labels.
    #[serde(deserialize_with = "bounded_list::<_, _, LABELS_MAX>")]
    pub labels: Vec<Label>,
    /// The version of its software.
    #[serde(deserialize_with = "bounded_text")]
    pub software: String,
    /// A request for a certificate (PKCS #10, DER): the key, and the proof that it is the agent's.
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "bounded_der")]
    pub request: Vec<u8>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolReply {
    /// Here is the certificate.
    Enrolled(Enrolled),
    /// There is none.
    Refused {
        /// Why, and what mends it: one line for a person.
        #[serde(deserialize_with = "bounded_text")]
        reason: String,
    },
}

/// A certificate, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// Who the agent is.
    pub agent: AgentId,
    /// What it is called.
    pub name: AgentName,
    /// The place in the network it sees from.
    pub vantage: AgentName,
    /// Its certificate (X.509, DER).
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "bounded_der")]
    pub certificate: Vec<u8>,
    /// The certificate of the authority (X.509, DER).
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "bounded_der")]
    pub authority: Vec<u8>,
}

fn bounded_der<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let der: Vec<u8> = serde_bytes::deserialize(deserializer)?;
    if der.len() > DER_BYTES_MAX {
        return Err(serde::de::Error::custom(format_args!("a certificate of more than {DER_BYTES_MAX} bytes")));
    }
    Ok(der)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use crate::version::SPOKEN;

    fn join() -> Join {
        Join {
            versions: SPOKEN,
            secret: *b"0123456789abcdef",
            name: "lab-1".to_owned().try_into().unwrap(),
            name_chosen: true,
            vantage: None,
            labels: vec!["site=lab".parse().unwrap(), "old=".parse().unwrap()],
            software: "0.1.0".to_owned(),
            request: vec![0x30, 0x82],
        }
    }

    #[test]
    fn requests_and_answers_survive_the_wire() {
        for request in [EnrolRequest::Join(join()), EnrolRequest::Renew { request: vec![1; 300] }] {
            assert_eq!(decode::<EnrolRequest>(&encode(&request).unwrap()).unwrap(), request);
        }
        let enrolled = Enrolled {
            agent: AgentId::new(7),
            name: "lab-1".to_owned().try_into().unwrap(),
            vantage: "lab".to_owned().try_into().unwrap(),
            certificate: vec![1],
            authority: vec![2],
        };
        for reply in [EnrolReply::Enrolled(enrolled), EnrolReply::Refused { reason: "no".to_owned() }] {
            assert_eq!(decode::<EnrolReply>(&encode(&reply).unwrap()).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_too_long_or_unknown_is_refused() {
        let long = EnrolRequest::Renew { request: vec![0; DER_BYTES_MAX + 1] };
        assert!(decode::<EnrolRequest>(&encode(&long).unwrap()).is_err());
        let many = Join { labels: vec!["a=b".parse().unwrap(); LABELS_MAX + 1], ..join() };
        assert!(decode::<EnrolRequest>(&encode(&EnrolRequest::Join(many)).unwrap()).is_err());
    }

    #[test]
    fn labels_and_ids_have_one_text() {
        assert_eq!("site=lab-1".parse::<Label>().unwrap().to_string(), "site=lab-1");
        for wrong in ["", "site", "=lab", "a b=c", "a=b=c", "a=\u{1b}", &format!("{}=b", "a".repeat(65))] {
            assert_eq!(wrong.parse::<Label>(), Err(LabelError), "{wrong:?}");
        }
        assert_eq!(AgentId::new(0xab).to_string().parse(), Ok(AgentId::new(0xab)));
        for wrong in ["", "ab", "00000000000000AB", "+0000000000000ab", "00000000000000abc"] {
            assert_eq!(wrong.parse::<AgentId>(), Err(AgentIdError), "{wrong:?}");
        }
    }
}
