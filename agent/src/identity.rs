//! Who this agent is, and what its owner lets it probe: what its state directory holds.
//!
//! The directory is `--state`, else `PORTSWEEP_AGENT_STATE`, else `$XDG_STATE_HOME/portsweep-agent` (or
//! `~/.local/state/portsweep-agent`), for root `/var/lib/portsweep-agent`. It is for its owner alone (0700, files 0600): `agent.key` (made
//! here, never sent), `agent.pem` (the certificate, renewed while the agent runs), `authority.pem`, and `agent.json`, which is written last:
//! where it is, the agent has joined. `agent.lock` is held by the one process that is this agent: two would look like a copied key.

use ipnet::IpNet;
use protocol::base64;
use protocol::enrol::{AgentId, Enrolled};
use protocol::id::AgentName;
use protocol::token::DialAddress;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// For root, as the file system hierarchy has it.
const ROOT_DIRECTORY: &str = "/var/lib/portsweep-agent";
const KEY: &str = "agent.key";
const CERTIFICATE: &str = "agent.pem";
const AUTHORITY: &str = "authority.pem";
const JOINED: &str = "agent.json";
const LOCK: &str = "agent.lock";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no home to keep it in.
    #[error("there is no place for this agent's state: name one with --state")]
    NoPlace,
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file, or the directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what was written there.
    #[error("{} is damaged ({detail}): restore it, or remove the directory and join again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A key or a request for a certificate cannot be made.
    #[error("make a key for this agent")]
    Key(#[source] rcgen::Error),
    /// Another process is this agent.
    #[error("{} is in use by another portsweep-agent: stop it, or give this one a --state of its own", .0.display())]
    Locked(PathBuf),
    /// It has not joined.
    #[error("no agent has joined in {}: run `portsweep-agent join TOKEN --allow CIDR`", .0.display())]
    NotJoined(PathBuf),
}

/// What an agent that has joined is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joined {
    /// Its id, as its certificate has it.
    #[serde(with = "as_text")]
    pub agent: AgentId,
    /// Its name, as the coordinator gave it.
    pub name: AgentName,
    /// The place in the network it sees from.
    pub vantage: AgentName,
    /// Where the coordinator is, to be tried in this order; at least one.
    #[serde(with = "all_as_text")]
    pub coordinator: Vec<DialAddress>,
    /// What its owner lets it probe. Only who may write this file, or types `join`, can change it.
    pub allow: Vec<IpNet>,
}

/// What it shows in TLS.
#[derive(Debug)]
pub struct Credentials {
    /// Its key.
    pub key: KeyPair,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    /// Its coordinator's authority.
    pub authority: CertificateDer<'static>,
}

/// An agent's state directory. It need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDirectory(PathBuf);

/// The right to be the agent of a state directory, while it is held.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not read: the lock goes with the file")] File);

impl StateDirectory {
    /// The directory that was named, else the usual one of this user.
    ///
    /// # Errors
    /// If there is none, or it cannot be made absolute.
    pub fn find(named: Option<&Path>) -> Result<Self, IdentityError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let named = named.map(Path::to_owned).or_else(|| variable("PORTSWEEP_AGENT_STATE"));
        let home = || {
            let xdg = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
            xdg.or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        };
        let directory = match named {
            Some(named) => named,
            // SAFETY: geteuid has no precondition and cannot fail.
            None if unsafe { libc::geteuid() } == 0 => PathBuf::from(ROOT_DIRECTORY),
            None => home().ok_or(IdentityError::NoPlace)?.join("portsweep-agent"),
        };
        std::path::absolute(&directory).map(Self).map_err(|source| IdentityError::File { path: directory, source })
    }

    /// Its path, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it if it is missing, and takes its lock.
    ///
    /// # Errors
    /// If another process has it, or it cannot be made.
    pub fn lock(&self) -> Result<Lock, IdentityError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|source| IdentityError::File { path: self.0.clone(), source })?;
        let path = self.0.join(LOCK);
        let failed = |source| IdentityError::File { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(IdentityError::Locked(self.0.clone())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// What joined here; `None` if nothing has.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn joined(&self) -> Result<Option<Joined>, IdentityError> {
        let path = self.0.join(JOINED);
        let Some(text) = self.read_if_there(JOINED)? else { return Ok(None) };
        let joined: Joined = serde_json::from_str(&text)
            .map_err(|error| IdentityError::Damaged { path: path.clone(), detail: error.to_string() })?;
        if joined.coordinator.is_empty() {
            return Err(IdentityError::Damaged { path, detail: "it names no coordinator".to_owned() });
        }
        Ok(Some(joined))
    }

    /// The key of this agent; made, and kept, if there is none: it is there before it is first used, so that a reply that was lost does
    /// not cost the token.
    ///
    /// # Errors
    /// If it cannot be read or made.
    pub fn key(&self) -> Result<KeyPair, IdentityError> {
        match self.read_if_there(KEY)? {
            Some(text) => KeyPair::from_pem(&text).map_err(|error| self.damaged(KEY, &error)),
            None => {
                let key = KeyPair::generate().map_err(IdentityError::Key)?;
                self.write(KEY, key.serialize_pem().as_bytes())?;
                Ok(key)
            }
        }
    }

    /// What to show in TLS.
    ///
    /// # Errors
    /// If any of it cannot be read.
    pub fn credentials(&self) -> Result<Credentials, IdentityError> {
        let key = self.read_if_there(KEY)?.ok_or_else(|| IdentityError::NotJoined(self.0.clone()))?;
        let key = KeyPair::from_pem(&key).map_err(|error| self.damaged(KEY, &error))?;
        Ok(Credentials { key, certificate: self.certificate(CERTIFICATE)?, authority: self.certificate(AUTHORITY)? })
    }

    /// Keeps what joining gave.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep(&self, enrolled: &Enrolled, joined: &Joined) -> Result<(), IdentityError> {
        self.write(AUTHORITY, pem(&enrolled.authority).as_bytes())?;
        self.renew(enrolled)?;
        self.set(joined)
    }

    /// Keeps a renewed certificate.
    ///
    /// # Errors
    /// If it cannot be written; the one before stays.
    pub fn renew(&self, enrolled: &Enrolled) -> Result<(), IdentityError> {
        self.write(CERTIFICATE, pem(&enrolled.certificate).as_bytes())
    }

    /// Keeps what an agent is, and what it may probe.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set(&self, joined: &Joined) -> Result<(), IdentityError> {
        let text = serde_json::to_vec_pretty(joined).map_err(|error| self.damaged(JOINED, &error))?;
        self.write(JOINED, &text)
    }

    fn certificate(&self, name: &str) -> Result<CertificateDer<'static>, IdentityError> {
        let text = self.read_if_there(name)?.ok_or_else(|| IdentityError::NotJoined(self.0.clone()))?;
        CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| self.damaged(name, &error))
    }

    fn damaged(&self, name: &str, error: &dyn std::fmt::Display) -> IdentityError {
        IdentityError::Damaged { path: self.0.join(name), detail: error.to_string() }
    }

    fn read_if_there(&self, name: &str) -> Result<Option<String>, IdentityError> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    /// Writes a file whole or not at all, also if the power goes.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), IdentityError> {
        let (path, beside) = (self.0.join(name), self.0.join(format!("{name}.tmp")));
        let attempt = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.0)?.sync_all()
        };
        attempt().map_err(|source| IdentityError::File { path: path.clone(), source })
    }
}

/// A request for a certificate (PKCS #10, DER): the key, and the proof that it is ours. What the certificate says is the coordinator's.
///
/// # Errors
/// If it cannot be signed.
pub fn request(key: &KeyPair) -> Result<Vec<u8>, IdentityError> {
    debug_assert!(!key.subject_public_key_info().is_empty());
    let request = CertificateParams::default().serialize_request(key).map_err(IdentityError::Key)?;
    Ok(request.der().to_vec())
}

/// A certificate as text (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let coded = base64::usual_text(der);
    let mut rest = coded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// A value as its text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Values as their texts.
mod all_as_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Display;
    use std::str::FromStr;

    pub(super) fn serialize<T: Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(name: &str) -> StateDirectory {
        let directory = std::env::temp_dir().join(format!("portsweep-identity-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        StateDirectory(directory)
    }

    fn joined() -> Joined {
        Joined {
            agent: AgentId::new(7),
            name: "lab-1".to_owned().try_into().unwrap(),
            vantage: "lab".to_owned().try_into().unwrap(),
            coordinator: vec!["192.0.2.1:7421".parse().unwrap()],
            allow: vec!["198.51.100.0/24".parse().unwrap()],
        }
    }

    #[test]
    fn what_is_kept_is_read_again_and_is_the_owners_alone() {
        let state = place("kept");
        assert_eq!(state.joined().unwrap(), None);
        assert!(matches!(state.credentials(), Err(IdentityError::NotJoined(_))));
        let key = state.key().unwrap();
        assert_eq!(state.key().unwrap().serialize_pem(), key.serialize_pem(), "it is made once");
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let enrolled = Enrolled {
            agent: AgentId::new(7),
            name: joined().name,
            vantage: joined().vantage,
            certificate: certificate.der().to_vec(),
            authority: certificate.der().to_vec(),
        };
        state.keep(&enrolled, &joined()).unwrap();
        assert_eq!(state.joined().unwrap(), Some(joined()));
        assert_eq!(&state.credentials().unwrap().certificate, certificate.der());
        for name in [KEY, CERTIFICATE, AUTHORITY, JOINED] {
            let mode = fs::metadata(state.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn one_process_at_a_time_is_the_agent() {
        let state = place("lock");
        let lock = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(IdentityError::Locked(_))));
        drop(lock);
        state.lock().unwrap();
        fs::remove_dir_all(state.path()).unwrap();
    }

    #[test]
    fn what_is_damaged_is_named() {
        let state = place("damaged");
        for text in ["", "{}", "[1]", &serde_json::to_string(&Joined { coordinator: vec![], ..joined() }).unwrap()] {
            fs::write(state.path().join(JOINED), text).unwrap();
            assert!(matches!(state.joined(), Err(IdentityError::Damaged { .. })), "{text}");
        }
        fs::write(state.path().join(KEY), "-----BEGIN").unwrap();
        assert!(matches!(state.key(), Err(IdentityError::Damaged { .. })));
        fs::remove_dir_all(state.path()).unwrap();
    }
}
