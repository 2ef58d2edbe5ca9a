//! MessagePack for one message in one frame, and back. The only place that calls rmp-serde for messages.
//!
//! A frame's body is at most [`FRAME_BYTES_MAX`] bytes; its 4-byte length in front is the transport's. Decoding is strict: trailing
//! bytes are an error, nesting is bounded, no list allocates more than was read, and a byte string is never a struct or a list.

mod strict;

use serde::Serialize;
use serde::de::DeserializeOwned;
use strict::Strict;

/// The longest body of a frame: 1 MiB.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// How deep our own messages nest: an enum, a struct, a list, a pair, with room for two fields to come.
const DEPTH_MAX: usize = 16;

/// Why a message cannot be framed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The message is too long for a frame: a bound was not kept where it was made.
    #[error("a message of {0} bytes does not fit in a frame of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// It cannot be expressed.
    #[error("the message cannot be encoded")]
    Encode(#[source] rmp_serde::encode::Error),
}

/// Why a frame is no message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The body is too long.
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// It is no message that this version knows.
    #[error("the frame is no known message")]
    Decode(#[source] rmp_serde::decode::Error),
    /// Something follows the message.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// The frame's body for a message: a named map.
///
/// # Errors
/// If the message does not fit in a frame.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, EncodeError> {
    #[expect(clippy::disallowed_methods, reason = "this is the codec")]
    let bytes = rmp_serde::to_vec_named(message).map_err(EncodeError::Encode)?;
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(EncodeError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The message in a frame's body.
///
/// # Errors
/// If the body is not exactly one well-formed message.
pub fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, DecodeError> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(DecodeError::TooLong(body.len()));
    }
    let mut rest = body;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let message = M::deserialize(Strict(&mut deserializer)).map_err(DecodeError::Decode)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    Ok(message)
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
