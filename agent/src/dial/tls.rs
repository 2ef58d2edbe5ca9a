//! TLS towards a coordinator: TLS 1.3 alone, an authority that is known by its pin (joining) or by its certificate (afterwards), and no
//! resumption: a certificate that ended must not live on in a ticket.

use crate::certificate::{Certificate, provider};
use crate::identity::Credentials;
use protocol::enrol::{COORDINATOR_NAME, ENROL};
use protocol::token::Pin;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;

/// Why TLS did not come about.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Who answers is not who the token or the state tells of.
    #[error("who answers there is not the coordinator that is known here: {0}")]
    Stranger(&'static str),
    /// What is configured here cannot be used.
    #[error("use this agent's certificate")]
    Configure(#[source] Error),
    /// The handshake failed.
    #[error("shake hands")]
    Handshake(#[source] io::Error),
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match inner {
            Some(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) => {
                Self::Stranger("the pin of the token is another's; make a new token, or look who listens there")
            }
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
                Self::Stranger("another authority signed its certificate")
            }
            Some(Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
                Self::Stranger("its certificate has ended; compare the clocks of both machines")
            }
            Some(Error::InvalidMessage(_)) => Self::Stranger("it does not speak TLS; is it the agent port?"),
            Some(Error::NoApplicationProtocol) => Self::Stranger("it is no portsweep coordinator's agent port"),
            _ => Self::Handshake(error),
        }
    }
}

/// For enrolment with a token: no certificate of ours, an authority that has this pin.
///
/// # Errors
/// [`TlsError::Configure`] does not happen with the provider that is built in.
pub fn joining(pin: Pin) -> Result<Arc<ClientConfig>, TlsError> {
    pinned(pin, ENROL)
}

/// No certificate of ours, an authority that has this pin; `protocol` says for what.
///
/// # Errors
/// As [`joining`].
pub fn pinned(pin: Pin, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(Pinned { pin, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Configure)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finished(config, protocol))
}

/// For an agent that has joined, with its certificate; `protocol` says for what.
///
/// # Errors
/// [`TlsError::Configure`] if key and certificate do not fit together.
pub fn known(credentials: &Credentials, protocol: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.authority.clone()).map_err(TlsError::Configure)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credentials.key.serialize_der()));
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Configure)?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![credentials.certificate.clone()], key)
        .map_err(TlsError::Configure)?;
    Ok(finished(config, protocol))
}

/// The name that a coordinator's certificate has.
#[must_use]
pub fn coordinator_name() -> ServerName<'static> {
    ServerName::try_from(COORDINATOR_NAME).unwrap_or_else(|_| unreachable!("a constant that is a name"))
}

fn finished(mut config: ClientConfig, protocol: &[u8]) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Trusts the authority with the pin, and whom it signed, if all hold: 1. the chain that is shown holds a certificate whose key has the
/// pin; 2. with that as root the coordinator's certificate is sound, in time, and has the coordinator's name.
#[derive(Debug)]
struct Pinned {
    pin: Pin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wrong = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        let has_pin = |der: &&CertificateDer<'_>| Certificate::read(der).is_ok_and(|read| read.pin == self.pin);
        let authority = intermediates.iter().find(has_pin).ok_or(wrong)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
