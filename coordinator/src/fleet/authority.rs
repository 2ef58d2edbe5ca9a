//! The certificate authority of a fleet: made when a coordinator first serves, kept in its state directory (0600), and never shown. It
//! signs agents' certificates, which are short-lived, and the coordinator's own, which is made anew at each start with a key that is never
//! written.

use crate::fleet::refusal::{Kind, Refusal};
use portsweep_agent::certificate::{Certificate, CertificateError, provider};
use portsweep_agent::clock::Clock;
use protocol::enrol::{AGENT_URI, AgentId, COORDINATOR_NAME, ENROL, LINK};
use protocol::token::Pin;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKey, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const KEY: &str = "authority.key";
const CERTIFICATE: &str = "authority.pem";
/// How long an agent's certificate holds.
pub const AGENT_LIFE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long the authority holds, and with it the coordinator's certificate, which lives as long as its process: about twenty years.
const LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3_600);
/// By how much the clocks of two machines may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3_600);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written there.
    #[error("{} is damaged ({detail}): restore it from a copy; without it every agent has to join anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A certificate cannot be made.
    #[error("make a certificate")]
    Make(#[from] rcgen::Error),
    /// One that was made cannot be read.
    #[error("read a certificate that was just made")]
    Read(#[from] CertificateError),
    /// TLS cannot be set up with them.
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    /// The system gives no random numbers.
    #[error("draw a random number: {0}")]
    Random(getrandom::Error),
}

/// By what the authority in `directory` is known; `None` if there is none that can be read.
#[must_use]
pub fn kept_pin(directory: &Path) -> Option<Pin> {
    let text = read_if_there(&directory.join(CERTIFICATE)).ok()??;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    Certificate::read(&certificate).ok().map(|read| read.pin)
}

/// An agent's certificate that was signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// Until when it holds.
    pub ends_at: SystemTime,
}

/// The public key of a request for a certificate that was found sound.
#[derive(Debug)]
pub struct Requested(PublicKey);

impl Requested {
    /// Reads a request (PKCS #10, DER). Taken from it is the key alone, and that who asks has it.
    ///
    /// # Errors
    /// A [`Refusal`] if it is not sound, or its key not of a kind that TLS 1.3 with ring takes from us.
    pub fn read(der: &[u8]) -> Result<Self, Refusal> {
        let refused = |why: &str| Refusal::new(Kind::Request, format!("the request for a certificate {why}"));
        let read = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der));
        let read = read.map_err(|_| refused("is not sound"))?;
        let algorithm = read.public_key.algorithm();
        if algorithm != &rcgen::PKCS_ECDSA_P256_SHA256 && algorithm != &rcgen::PKCS_ED25519 {
            return Err(refused("has a key that is neither P-256 nor Ed25519"));
        }
        Ok(Self(read.public_key))
    }

    /// By what the key is known.
    #[must_use]
    pub fn pin(&self) -> Pin {
        Pin::of(&self.0.subject_public_key_info())
    }
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Pin,
    agent_life: Duration,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Authority {
    /// The authority that is kept in `directory`; made there if there is none. Certificates of agents hold for `agent_life`.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn open(directory: &Path, agent_life: Duration) -> Result<Self, AuthorityError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| AuthorityError::File { path: directory.to_owned(), source })?;
        let (key_path, certificate_path) = (directory.join(KEY), directory.join(CERTIFICATE));
        let damaged = |path: &Path, error: &dyn std::fmt::Display| AuthorityError::Damaged {
            path: path.to_owned(),
            detail: error.to_string(),
        };
        let key = match read_if_there(&key_path)? {
            Some(text) => KeyPair::from_pem(&text).map_err(|error| damaged(&key_path, &error))?,
            None => {
                let key = KeyPair::generate()?;
                write(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let certificate = match read_if_there(&certificate_path)? {
            Some(text) => {
                CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| damaged(&certificate_path, &error))?
            }
            None => {
                let made = authority_params()?.self_signed(&key)?;
                write(&certificate_path, made.pem().as_bytes())?;
                made.der().clone()
            }
        };
        let pin = Certificate::read(&certificate).map_err(|error| damaged(&certificate_path, &error))?.pin;
        if pin != Pin::of(&key.subject_public_key_info()) {
            return Err(damaged(&certificate_path, &"it is of another key"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate, pin, agent_life })
    }

    /// By what it is known.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Signs a certificate for an agent.
    ///
    /// # Errors
    /// If the system gives no random numbers, or a certificate cannot be made.
    pub fn sign(&self, agent: AgentId, requested: &Requested) -> Result<Signed, AuthorityError> {
        let mut params = params(&format!("portsweep agent {agent}"))?;
        params.not_after = (Clock::wall() + self.agent_life).into();
        // A short life would be over before it began if it counted from a day ago: renewal counts from its beginning.
        params.not_before = (Clock::wall() - CLOCK_SKEW.min(self.agent_life / 16)).into();
        let uri = format!("{AGENT_URI}{agent}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&requested.0, &self.issuer)?;
        let read = Certificate::read(certificate.der())?;
        Ok(Signed { der: certificate.der().to_vec(), serial: read.serial, ends_at: read.ends_at })
    }

    /// What the listener speaks: TLS 1.3 alone, a client's certificate of this authority or none, no resumption: a certificate that
    /// ended must not live on in a ticket.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn server_config(&self) -> Result<ServerConfig, AuthorityError> {
        let (chain, key) = self.own(&[])?;
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![LINK.to_vec(), ENROL.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// What page and API speak with others: TLS 1.3 alone, and nobody is asked for a certificate. `names` are names and addresses under
    /// which they are asked for.
    ///
    /// # Errors
    /// As [`sign`](Self::sign), or if one is no name.
    pub fn page_config(&self, names: &[String]) -> Result<ServerConfig, AuthorityError> {
        let (chain, key) = self.own(names)?;
        let builder =
            ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
        Ok(builder.with_no_client_auth().with_single_cert(chain, key)?)
    }

    /// The coordinator's own certificate, made anew with a key that is never written. The authority goes with it: who joins or logs in
    /// knows its pin only.
    fn own(&self, names: &[String]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = params("portsweep coordinator")?;
        params.subject_alt_names = vec![SanType::DnsName(COORDINATOR_NAME.to_owned().try_into()?)];
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into()?),
            });
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok((vec![certificate.der().clone(), self.certificate.clone()], key))
    }
}

fn params(name: &str) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (Clock::wall() - CLOCK_SKEW).into();
    params.not_after = (Clock::wall() + LIFE).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    // Two certificates of one key must not share a number, so it is not made of the key. 15 bytes: RFC 5280 allows 20, positive.
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(AuthorityError::Random)?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn authority_params() -> Result<CertificateParams, AuthorityError> {
    let mut params = params("portsweep authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn read_if_there(path: &Path) -> Result<Option<String>, AuthorityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuthorityError::File { path: path.to_owned(), source }),
    }
}

/// Writes a new file whole or not at all, also if the power goes.
fn write(path: &Path, content: &[u8]) -> Result<(), AuthorityError> {
    let beside = path.with_extension("tmp");
    let attempt = || {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    attempt().map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn requested(key: &KeyPair) -> Vec<u8> {
        portsweep_agent::identity::request(key).unwrap()
    }

    #[test]
    fn it_is_made_once_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let made = Authority::open(directory.path(), AGENT_LIFE).unwrap();
        let again = Authority::open(directory.path(), AGENT_LIFE).unwrap();
        assert_eq!((made.pin(), made.certificate()), (again.pin(), again.certificate()));
        let mode = fs::metadata(directory.path().join(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        made.server_config().unwrap();
        // A certificate that was lost is made anew for the same key: agents know it by that.
        fs::remove_file(directory.path().join(CERTIFICATE)).unwrap();
        assert_eq!(Authority::open(directory.path(), AGENT_LIFE).unwrap().pin(), made.pin());
        fs::write(directory.path().join(KEY), "nonsense").unwrap();
        assert!(matches!(Authority::open(directory.path(), AGENT_LIFE), Err(AuthorityError::Damaged { .. })));
    }

    #[test]
    fn an_agents_certificate_names_it_and_ends_soon() {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::open(directory.path(), AGENT_LIFE).unwrap();
        let key = KeyPair::generate().unwrap();
        let request = Requested::read(&requested(&key)).unwrap();
        let (one, other) = (authority.sign(AgentId::new(7), &request), authority.sign(AgentId::new(7), &request));
        let (one, other) = (one.unwrap(), other.unwrap());
        let read = Certificate::read(&one.der).unwrap();
        assert_eq!((read.agent, read.pin), (Some(AgentId::new(7)), request.pin()));
        assert!(one.ends_at <= Clock::wall() + AGENT_LIFE);
        assert!(read.renew_at(0.5) > Clock::wall());
        assert_ne!(one.serial, other.serial);
    }

    #[test]
    fn a_request_that_is_not_sound_or_of_another_kind_of_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let sound = requested(&key);
        assert!(Requested::read(&sound).is_ok());
        assert!(Requested::read(&requested(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())).is_ok());
        assert!(Requested::read(&requested(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap())).is_err());
        let mut forged = sound.clone();
        *forged.last_mut().unwrap() ^= 1;
        for wrong in [&[][..], b"nonsense", &sound[..sound.len() - 1], &forged] {
            assert_eq!(Requested::read(wrong).unwrap_err().kind, Kind::Request);
        }
    }
}
