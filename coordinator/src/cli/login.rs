//! `portsweep login`: where a coordinator is, by what it is known in TLS, and the token with which it is asked, as one string.
//!
//! `https://HOST:PORT#PIN.TOKEN`, or `http://HOST:PORT#TOKEN` for one that speaks no TLS. The part after `#` is none that is ever sent. It is
//! kept in `STATE/login`, which is its owner's alone, and written by `client`.

use super::CliError;
use super::remote;
use crate::state::State;
use protocol::quote::Quoted;
use protocol::token::Pin;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

/// The file in the state directory.
const FILE: &str = "login";
/// The longest string that is one.
const BYTES_MAX: usize = 1 << 10;

/// Where a coordinator is, and how it is asked. It is shown whole: it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Its URL, with its port and without a path.
    pub url: String,
    /// By what it is known in TLS; `None` without TLS.
    pub pin: Option<Pin>,
    /// The token.
    pub token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What is none. It may be a part of a secret, so it is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no login: take what `portsweep token api` prints on the coordinator's machine, whole")]
pub struct LoginError;

impl FromStr for Login {
    type Err = LoginError;

    fn from_str(text: &str) -> Result<Self, LoginError> {
        let text = text.trim();
        let (written, secrets) = text.split_once('#').filter(|_| text.len() <= BYTES_MAX).ok_or(LoginError)?;
        let url = remote::url(written).filter(|url| url == written).ok_or(LoginError)?;
        let (pin, token) = match secrets.split_once('.') {
            Some((pin, token)) => (Some(read_pin(pin).ok_or(LoginError)?), token),
            None => (None, secrets),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let is_token = !token.is_empty() && token.bytes().all(plain);
        if !is_token || pin.is_some() != url.starts_with("https:") {
            return Err(LoginError);
        }
        Ok(Self { url, pin, token: token.to_owned() })
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pin {
            Some(pin) => write!(f, "{}#{pin}.{}", self.url, self.token),
            None => write!(f, "{}#{}", self.url, self.token),
        }
    }
}

fn read_pin(text: &str) -> Option<Pin> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(Pin::from_bytes(bytes))
}

/// A login is to be kept.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// It.
    pub login: Login,
    /// Where.
    pub state: State,
}

impl LoginRequest {
    pub(super) fn new(login: &str, state: State) -> Result<Self, CliError> {
        let login = login.parse().map_err(|error: LoginError| CliError::Coordinator(error.to_string()))?;
        Ok(Self { login, state })
    }

    /// The file where it is kept.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state.directory().join(FILE)
    }
}

/// What was logged in with last.
pub(super) fn kept(state: &State) -> Result<Option<Login>, CliError> {
    let path = state.directory().join(FILE);
    let wrong = |why: String| {
        let file = Quoted::new(&path.to_string_lossy());
        CliError::Coordinator(format!("{file} cannot be read ({why}): remove it, and portsweep login again"))
    };
    match fs::read_to_string(&path) {
        Ok(text) => text.parse().map(Some).map_err(|_| wrong("it holds no login".to_owned())),
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_as_it_is_written_and_anything_else_is_none() {
        let pin = "ab".repeat(32);
        let token = format!("psw_{}", "0".repeat(64));
        for good in [format!("https://192.0.2.1:7420#{pin}.{token}"), format!("http://[::1]:7420#{token}")] {
            assert_eq!(good.parse::<Login>().unwrap().to_string(), good);
        }
        for wrong in [
            String::new(),
            token.clone(),
            "https://192.0.2.1:7420".to_owned(),
            // TLS without a pin, and a pin without TLS.
            format!("https://192.0.2.1:7420#{token}"),
            format!("http://192.0.2.1:7420#{pin}.{token}"),
            format!("https://192.0.2.1:7420#{}.{token}", &pin[..62]),
            format!("https://192.0.2.1:7420#{}é.{token}", &pin[..62]),
            format!("https://192.0.2.1:7420#{pin}."),
            format!("https://192.0.2.1:7420#{pin}.{token}\nHost: x"),
            format!("https://192.0.2.1#{pin}.{token}"),
            format!("https://192.0.2.1:7420/page#{pin}.{token}"),
            format!("http://192.0.2.1:7420#{}", "a".repeat(2_000)),
        ] {
            assert_eq!(wrong.parse::<Login>(), Err(LoginError), "{wrong}");
        }
    }
}
