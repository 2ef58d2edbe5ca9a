//! The join token: one string with which an agent joins. It says where the coordinator is, by what its certificate authority is known
//! (the pin), and holds the secret that may be used once.
//!
//! Text: `psj_` and base64url of: version (1 byte), pin (32), secret (16), number of addresses (1 byte), for each its length (1 byte)
//! and its text, and the first four bytes of the SHA-256 of all before, which tells a token that was cut or mistyped from one that
//! is refused.

use crate::base64;
use crate::quote::Quoted;
use sha2::{Digest, Sha256};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a join token begins with.
pub const PREFIX: &str = "psj_";
/// The most addresses that a token names.
pub const ADDRESSES_MAX: usize = 8;
/// The longest text that is looked at, in bytes: eight of the longest addresses fit.
pub const TEXT_BYTES_MAX: usize = 4_096;

const VERSION: u8 = 1;
const PIN_BYTES: usize = 32;
/// The length of a secret in bytes: nobody guesses 128 bits.
pub const SECRET_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;
/// The longest name of a host. DNS has 253 bytes; with brackets and a port the text must fit in one byte's count.
const HOST_BYTES_MAX: usize = 240;

/// Where a coordinator's agent port is reached: `192.0.2.1:7421`, `[2001:db8::1]:7421`, `scan.example.net:7421`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DialAddress {
    host: String,
    port: u16,
}

/// A text that is no address to dial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no address with a port: write 192.0.2.1:7421, [2001:db8::1]:7421 or name:7421")]
pub struct DialAddressError(Quoted);

impl DialAddress {
    /// The host: a name, or an address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host as an address, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for DialAddress {
    type Err = DialAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || DialAddressError(Quoted::new(text));
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return if socket.port() > 0 { Ok(socket.into()) } else { Err(wrong()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|&port| digits && port > 0).ok_or_else(wrong)?;
        let plain = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let labels = host.strip_suffix('.').unwrap_or(host);
        // As in a target: what ends in a digit is no name, but an address that was mistyped.
        let last_is_word =
            labels.rsplit('.').next().is_some_and(|last| !last.starts_with(|c: char| c.is_ascii_digit()));
        if host.len() > HOST_BYTES_MAX || !labels.split('.').all(plain) || !last_is_word {
            return Err(wrong());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl From<SocketAddr> for DialAddress {
    fn from(socket: SocketAddr) -> Self {
        Self { host: socket.ip().to_canonical().to_string(), port: socket.port() }
    }
}

impl fmt::Display for DialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A digest by which a certificate authority is known: SHA-256 of its public key (SubjectPublicKeyInfo).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; PIN_BYTES]);

impl Pin {
    /// The pin of a public key, as DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn of(public_key: &[u8]) -> Self {
        Self(Sha256::digest(public_key).into())
    }

    /// From its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PIN_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; PIN_BYTES] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The part of a token that may be used once. It is never shown but in a token's text, and kept only as a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// From bytes that nobody can guess.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }

    /// What is kept of it: its SHA-256.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What an agent needs to join. Its [`Display`](fmt::Display) is the token itself, secret included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    addresses: Vec<DialAddress>,
    pin: Pin,
    secret: Secret,
}

/// A text that is no join token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is something else.
    #[error(
        "this is no join token: it begins with {PREFIX}, and `portsweep token agent` on the coordinator's machine prints one"
    )]
    Alien,
    /// It lost something, or was mistyped.
    #[error("the join token is damaged (cut short, or mistyped): copy the whole of it again")]
    Damaged,
    /// It is of another version.
    #[error("the join token is of version {0}, this program knows {VERSION}: upgrade the agent")]
    Version(u8),
    /// Its checksum is right and its content is not.
    #[error("the join token names no address that can be dialled: make another with `portsweep token agent`")]
    Address,
    /// There must be some addresses, and not too many.
    #[error("a join token names 1 to {ADDRESSES_MAX} addresses, not {0}")]
    Addresses(usize),
}

impl JoinToken {
    /// A token.
    ///
    /// # Errors
    /// [`TokenError::Addresses`] unless there are 1 to [`ADDRESSES_MAX`] of them.
    pub fn new(addresses: Vec<DialAddress>, pin: Pin, secret: Secret) -> Result<Self, TokenError> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(TokenError::Addresses(addresses.len()));
        }
        Ok(Self { addresses, pin, secret })
    }

    /// Where the coordinator is: at least one, to be tried in this order.
    #[must_use]
    pub fn addresses(&self) -> &[DialAddress] {
        &self.addresses
    }

    /// By what its authority is known.
    #[must_use]
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What may be used once.
    #[must_use]
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        bytes.extend(self.pin.as_bytes());
        bytes.extend(self.secret.as_bytes());
        bytes.push(self.addresses.len() as u8);
        for address in &self.addresses {
            let text = address.to_string();
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
        bytes.extend(&Sha256::digest(&bytes)[..CHECK_BYTES]);
        write!(f, "{PREFIX}{}", base64::url_text(&bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let coded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Alien)?;
        if coded.len() > TEXT_BYTES_MAX {
            return Err(TokenError::Damaged);
        }
        let bytes = base64::url_bytes(coded).ok_or(TokenError::Damaged)?;
        let (body, check) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(TokenError::Damaged)?;
        if Sha256::digest(body)[..CHECK_BYTES] != check[..] {
            return Err(TokenError::Damaged);
        }
        let (&version, body) = body.split_first().ok_or(TokenError::Damaged)?;
        if version != VERSION {
            return Err(TokenError::Version(version));
        }
        let (pin, body) = body.split_first_chunk::<PIN_BYTES>().ok_or(TokenError::Damaged)?;
        let (secret, body) = body.split_first_chunk::<SECRET_BYTES>().ok_or(TokenError::Damaged)?;
        let (&count, mut body) = body.split_first().ok_or(TokenError::Damaged)?;
        let mut addresses = Vec::new();
        for _ in 0..count {
            let (&length, rest) = body.split_first().ok_or(TokenError::Damaged)?;
            let (address, rest) = rest.split_at_checked(usize::from(length)).ok_or(TokenError::Damaged)?;
            let address = std::str::from_utf8(address).ok().and_then(|text| text.parse().ok());
            addresses.push(address.ok_or(TokenError::Address)?);
            body = rest;
        }
        if !body.is_empty() {
            return Err(TokenError::Damaged);
        }
        Self::new(addresses, Pin(*pin), Secret(*secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        let addresses = ["192.0.2.1:7421", "[2001:db8::1]:7421", "scan.example.net:443"];
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        JoinToken::new(addresses, Pin::of(b"a public key"), Secret::from_bytes(*b"0123456789abcdef")).unwrap()
    }

    #[test]
    fn a_token_survives_its_text_and_tells_no_secret_elsewhere() {
        let text = token().to_string();
        assert!(text.starts_with("psj_"), "{text}");
        assert_eq!(format!(" {text}\n").parse(), Ok(token()));
        assert!(!format!("{:?}", token()).contains("0123456789"));
        assert_eq!(JoinToken::new(Vec::new(), token().pin(), token().secret().clone()), Err(TokenError::Addresses(0)));
    }

    #[test]
    fn the_golden_token_of_version_1_is_read() {
        let golden = include_str!("../testdata/join_token_v1.txt");
        assert_eq!(golden.parse(), Ok(token()));
        assert_eq!(token().to_string(), golden.trim());
    }

    #[test]
    fn every_character_that_is_changed_or_lost_is_noticed() {
        let text = token().to_string();
        for at in PREFIX.len()..text.len() {
            assert_eq!(text[..at].parse::<JoinToken>(), Err(TokenError::Damaged), "cut at {at}");
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(changed.parse::<JoinToken>(), Err(TokenError::Damaged), "changed at {at}");
        }
        let long = format!("psj_{}", "A".repeat(1 << 20));
        assert_eq!(long.parse::<JoinToken>(), Err(TokenError::Damaged));
        for alien in ["", "psa_AAAA", "http://192.0.2.1:7420", "psj"] {
            assert_eq!(alien.parse::<JoinToken>(), Err(TokenError::Alien), "{alien:?}");
        }
    }

    #[test]
    fn a_sound_checksum_over_a_wrong_content_is_no_token() {
        let sealed = |mut bytes: Vec<u8>| {
            bytes.extend(Sha256::digest(&bytes)[..CHECK_BYTES].to_vec());
            format!("{PREFIX}{}", base64::url_text(&bytes)).parse::<JoinToken>()
        };
        let with = |tail: &[u8]| [&[VERSION][..], &[7; PIN_BYTES + SECRET_BYTES], tail].concat();
        assert_eq!(sealed(vec![9]), Err(TokenError::Version(9)));
        assert_eq!(sealed(with(&[0])), Err(TokenError::Addresses(0)));
        assert_eq!(sealed(with(&[1, 3, b'a', b':', b'0'])), Err(TokenError::Address));
        assert_eq!(sealed(with(&[1, 9, b'a'])), Err(TokenError::Damaged));
        assert_eq!(sealed(with(&[1, 3, b'a', b':', b'1', 0])), Err(TokenError::Damaged));
        assert_eq!(sealed(with(&[])), Err(TokenError::Damaged));
    }

    #[test]
    fn addresses_to_dial_are_addresses_or_names_with_a_port() {
        for good in ["192.0.2.1:7421", "[2001:db8::1]:1", "a:65535", "scan.example.net.:7421", "my_host-1.lan:80"] {
            let address: DialAddress = good.parse().unwrap();
            assert_eq!(address.to_string(), good);
        }
        for wrong in [
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "2001:db8::1",
            "[::1]",
            "192.0.2:1",
            "192.0.2.999:1",
            "a b:1",
            "a..b:1",
            "a\u{1b}:1",
            "http://a:1",
            "a/b:1",
            "192.0.2.1:0",
        ] {
            assert!(wrong.parse::<DialAddress>().is_err(), "{wrong:?}");
        }
    }
}
