//! Reading certificates: whose key, how long they hold, whose they are. Both sides use it.

use protocol::enrol::{AGENT_URI, AgentId};
use protocol::token::Pin;
use rustls::crypto::CryptoProvider;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The one provider of cryptography in these programs. Two in one process panic when rustls has to choose.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Bytes that are no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no certificate that can be read")]
pub struct CertificateError;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// By what its key is known.
    pub pin: Pin,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// From when it holds.
    pub begins_at: SystemTime,
    /// Until when it holds.
    pub ends_at: SystemTime,
    /// The agent that it is of; `None` for an authority's, and any that names more or something else.
    pub agent: Option<AgentId>,
}

impl Certificate {
    /// Reads one, DER. Nothing about who signed it is asked here.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError)?;
        if !rest.is_empty() {
            return Err(CertificateError);
        }
        let moment = |seconds: i64| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
        };
        let validity = certificate.validity();
        Ok(Self {
            pin: Pin::of(certificate.public_key().raw),
            serial: certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            begins_at: moment(validity.not_before.timestamp()),
            ends_at: moment(validity.not_after.timestamp()),
            agent: agent_of(&certificate),
        })
    }

    /// When it is to be renewed: once `part` of its life is over.
    #[must_use]
    pub fn renew_at(&self, part: f64) -> SystemTime {
        let life = self.ends_at.duration_since(self.begins_at).unwrap_or(Duration::ZERO);
        self.begins_at + life.mul_f64(part.clamp(0.0, 1.0))
    }
}

/// The agent that a certificate names, if it has exactly one name, and that is an agent's.
fn agent_of(certificate: &X509Certificate<'_>) -> Option<AgentId> {
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => uri.strip_prefix(AGENT_URI)?.parse().ok(),
        _ => None,
    }
}
