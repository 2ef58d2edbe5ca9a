//! HTTP proxies on the way to a coordinator: `HTTPS_PROXY` names one, `NO_PROXY` who is reached without. A proxy is asked to connect
//! (`CONNECT`, RFC 9110 section 9.3.6) and from then on carries bytes; it sees neither frames nor keys.

use protocol::base64;
use protocol::quote::Quoted;
use protocol::token::DialAddress;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A proxy's answer is short; more than this is none.
const ANSWER_BYTES_MAX: usize = 8 << 10;
/// The port of a proxy whose address names none.
const PORT_DEFAULT: u16 = 3128;

/// Why a proxy is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// What `HTTPS_PROXY` says is no proxy.
    #[error("HTTPS_PROXY is {0}: write http://host:port, http://user:password@host:port, or nothing")]
    Setting(Quoted),
    /// It could not be talked to.
    #[error("talk to the proxy")]
    Io(#[from] io::Error),
    /// It said no.
    #[error("the proxy answers {0}")]
    Refused(Quoted),
    /// It did not say anything that can be understood.
    #[error("what answers is no HTTP proxy")]
    NoProxy,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    address: DialAddress,
    /// `user:password`, coded as the header wants it.
    basic: Option<String>,
}

/// Which proxy to take for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    hop: Option<Hop>,
    without: Vec<String>,
}

impl Proxies {
    /// As the environment says: `HTTPS_PROXY` or `https_proxy`, `NO_PROXY` or `no_proxy`.
    ///
    /// # Errors
    /// If the proxy cannot be understood.
    pub fn from_environment() -> Result<Self, ProxyError> {
        let set = |names: [&str; 2]| names.iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
        Self::new(&set(["https_proxy", "HTTPS_PROXY"]), &set(["no_proxy", "NO_PROXY"]))
    }

    /// With the values of `HTTPS_PROXY` and `NO_PROXY`; empty ones are none. `NO_PROXY` is a list of names (`example.net` is also
    /// `a.example.net`), addresses, networks and `*`.
    ///
    /// # Errors
    /// If the proxy cannot be understood.
    pub fn new(proxy: &str, without: &str) -> Result<Self, ProxyError> {
        let without = without.split(',').map(|entry| entry.trim().trim_start_matches('.').to_ascii_lowercase());
        let without = without.filter(|entry| !entry.is_empty()).collect();
        let proxy = proxy.trim();
        let hop = if proxy.is_empty() { None } else { Some(hop(proxy)?) };
        Ok(Self { hop, without })
    }

    /// The proxy through which `address` is reached; `None` for directly.
    pub(super) fn hop(&self, address: &DialAddress) -> Option<Hop> {
        let without = self.without.iter().any(|entry| is_meant(entry, address));
        self.hop.clone().filter(|_| !without)
    }
}

fn hop(setting: &str) -> Result<Hop, ProxyError> {
    // The password is not shown.
    let wrong = || ProxyError::Setting(Quoted::new(setting.rsplit('@').next().unwrap_or_default()));
    let rest = match setting.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err(wrong()),
        None => setting,
    };
    let rest = rest.trim_end_matches('/');
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let address = host.parse().or_else(|_| format!("{host}:{PORT_DEFAULT}").parse()).map_err(|_| wrong())?;
    Ok(Hop { address, basic: user.map(|user| base64::usual_text(&unescaped(user))) })
}

/// A user or a password as a URL has it: `%40` is `@`.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let coded = after.first_chunk::<2>().and_then(|digits| std::str::from_utf8(digits).ok());
        match coded.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

/// Whether an entry of `NO_PROXY` means this host.
fn is_meant(entry: &str, address: &DialAddress) -> bool {
    let host = address.host();
    if let Some(ip) = address.ip() {
        let of_net = entry.parse::<ipnet::IpNet>().is_ok_and(|net| net.contains(&ip));
        return of_net || entry == "*" || entry.parse() == Ok(ip);
    }
    let host = host.trim_end_matches('.');
    entry == "*" || host == entry || host.strip_suffix(entry).is_some_and(|before| before.ends_with('.'))
}

impl Hop {
    /// Where it is.
    pub(super) const fn address(&self) -> &DialAddress {
        &self.address
    }

    /// Asks it, on a connection to it, to connect to `address`.
    pub(super) async fn ask(&self, stream: &mut TcpStream, address: &DialAddress) -> Result<(), ProxyError> {
        let credentials = match &self.basic {
            Some(basic) => format!("Proxy-Authorization: Basic {basic}\r\n"),
            None => String::new(),
        };
        let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{credentials}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the header is the peer's, and must stay in the socket.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_BYTES_MAX {
                return Err(ProxyError::NoProxy);
            }
            answer.push(stream.read_u8().await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => ProxyError::NoProxy,
                _ => ProxyError::Io(error),
            })?);
        }
        let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
            return Err(ProxyError::NoProxy);
        }
        match words.next() {
            Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
            _ => Err(ProxyError::Refused(Quoted::new(&line))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(proxies: &Proxies, address: &str) -> Option<String> {
        proxies.hop(&address.parse().unwrap()).map(|hop| hop.address.to_string())
    }

    #[test]
    fn a_proxy_is_taken_for_all_but_those_who_are_left_out() {
        let proxies =
            Proxies::new("http://proxy.example.net:8080/", "localhost, .lan,example.org,192.0.2.0/28,2001:db8::7")
                .unwrap();
        for (address, through) in [
            ("scan.example.net:7421", true),
            ("example.org:7421", false),
            ("a.example.org:7421", false),
            ("notexample.org:7421", true),
            ("host.lan:1", false),
            ("localhost:7421", false),
            ("192.0.2.15:7421", false),
            ("192.0.2.16:7421", true),
            ("[2001:db8::7]:7421", false),
            ("[2001:db8::8]:7421", true),
        ] {
            let expected = through.then(|| "proxy.example.net:8080".to_owned());
            assert_eq!(reached(&proxies, address), expected, "{address}");
        }
        assert_eq!(reached(&Proxies::new("http://p:1", "*").unwrap(), "a:1"), None);
        assert_eq!(reached(&Proxies::new("", "").unwrap(), "a:1"), None);
        assert_eq!(reached(&Proxies::new("192.0.2.1", "").unwrap(), "a:1").as_deref(), Some("192.0.2.1:3128"));
    }

    #[test]
    fn what_is_no_proxy_is_refused_and_shows_no_password() {
        for wrong in ["https://p:1", "socks5://p:1", "http://", "http://p:0", "http://p:1/path", "http://a b:1"] {
            assert!(Proxies::new(wrong, "").is_err(), "{wrong}");
        }
        let error = Proxies::new("ftp://me:secret@p:1", "").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn user_and_password_are_coded() {
        let hop = hop("http://Aladdin:open%20sesame@p:1").unwrap();
        assert_eq!(hop.basic.as_deref(), Some("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(unescaped("a%40%zz%"), b"a@%zz%");
    }
}
