//! Enrolment, seen from the agent: it asks for its certificate, with a token, and later for the next one.

use crate::dial::{DialError, Route, TlsError, joining, known};
use crate::frames::{ReadError, exchange};
use crate::identity::Credentials;
use protocol::enrol::{ENROL, ENROL_BYTES_MAX, EnrolReply, EnrolRequest, Enrolled, Join};
use protocol::token::Pin;
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

/// How long the answer may take: it is signed and made durable.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What is shown of a reason.
const LINE_CHARS_MAX: usize = 300;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// TLS cannot be configured.
    #[error("prepare TLS")]
    Tls(#[from] TlsError),
    /// The coordinator was not reached.
    #[error("reach the coordinator")]
    Dial(#[from] DialError),
    /// It said no.
    #[error("the coordinator refuses: {0}")]
    Refused(String),
    /// It did not say anything that can be understood.
    #[error("hear the coordinator's answer")]
    Answer(#[from] ReadError),
    /// It took too long.
    #[error("hear the coordinator's answer: none within {} s", ANSWER_TIMEOUT.as_secs())]
    TooSlow,
    /// It closed.
    #[error("hear the coordinator's answer: it closed the connection")]
    Closed,
}

/// Joins: the coordinator is the one whose authority has `pin`.
///
/// # Errors
/// If it cannot be reached, is another, or refuses.
pub async fn join(route: &Route, pin: Pin, join: Join) -> Result<Enrolled, EnrolError> {
    ask(route, &joining(pin)?, &EnrolRequest::Join(join)).await
}

/// Gets the next certificate, with the present one.
///
/// # Errors
/// As [`join`].
pub async fn renew(route: &Route, credentials: &Credentials, request: Vec<u8>) -> Result<Enrolled, EnrolError> {
    ask(route, &known(credentials, ENROL)?, &EnrolRequest::Renew { request }).await
}

async fn ask(route: &Route, config: &Arc<ClientConfig>, request: &EnrolRequest) -> Result<Enrolled, EnrolError> {
    let stream = route.connect(config).await?;
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, exchange(stream, request, ENROL_BYTES_MAX)).await;
    match answer.map_err(|_| EnrolError::TooSlow)??.ok_or(EnrolError::Closed)? {
        EnrolReply::Enrolled(enrolled) => Ok(enrolled),
        EnrolReply::Refused { reason } => Err(EnrolError::Refused(one_line(&reason))),
    }
}

/// What another machine says to a person here: one line, and harmless to a terminal.
pub(crate) fn one_line(reason: &str) -> String {
    let harmless = |char: char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' };
    reason.chars().map(harmless).take(LINE_CHARS_MAX).collect()
}
