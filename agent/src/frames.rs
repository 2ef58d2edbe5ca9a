//! Messages over a byte stream: length-delimited frames of at most 1 MiB, one MessagePack message each. The same for a duplex in
//! this process and for a connection to another machine.
//!
//! Queue: frames to be written ([`crate::queue`]), at most [`FRAMES_MAX`] and [`FRAMES_BYTES_MAX`]; a peer that does not read makes it
//! full, and the session is then given up.

use crate::queue::{self, Bounds, PushError, Reader, Writer};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use protocol::codec::{self, DecodeError, EncodeError, FRAME_BYTES_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio_util::codec::{Framed, FramedRead, FramedWrite, LengthDelimitedCodec};

/// How many frames may wait to be written: what an agent can have unacknowledged, and the rest.
pub const FRAMES_MAX: usize = 1_024;
/// How many bytes they may have together: what some of the largest have, and thousands of the usual.
pub const FRAMES_BYTES_MAX: u32 = 16 << 20;
/// A frame that cannot be written for so long will not be: the peer does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(6);

/// A byte stream to a peer.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// A connection, before anything was said on it.
pub type Transport = Box<dyn Stream>;

/// Why a message could not be queued for a peer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// It does not fit in a frame.
    #[error("frame a message")]
    Encode(#[from] EncodeError),
    /// The queue is full: the peer does not read.
    #[error("queue a frame: {0} is full")]
    Full(Bounds),
    /// The connection is gone.
    #[error("queue a frame: the connection is closed")]
    Closed,
}

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection failed, or a frame was too long or cut short.
    #[error("read a frame")]
    Io(#[from] io::Error),
    /// A frame held no known message.
    #[error("read a message")]
    Decode(#[from] DecodeError),
}

/// Splits a connection into its two directions.
#[must_use]
pub fn split(transport: Transport) -> (FrameReader, FrameWriter) {
    let (read, write) = tokio::io::split(transport);
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(FRAME_BYTES_MAX);
    let (frames, queue) = queue::bounded(Bounds { of: "frames", items: FRAMES_MAX, bytes: FRAMES_BYTES_MAX });
    // Ends when the writer is dropped and the queue is empty, or when the peer is gone or does not read.
    tokio::task::spawn_local(write_frames(FramedWrite::new(write, codec.new_codec()), queue));
    (FrameReader(FramedRead::new(read, codec.new_codec())), FrameWriter(frames))
}

/// Says one thing on a connection and hears one: `None` if the peer closed without. Neither frame is longer than `bytes_max`.
///
/// # Errors
/// As [`FrameReader::next`]; a request that does not fit is an error of the connection.
pub async fn exchange<Q: Serialize, A: DeserializeOwned>(
    stream: impl Stream,
    request: &Q,
    bytes_max: usize,
) -> Result<Option<A>, ReadError> {
    let mut framed = framed(stream, bytes_max);
    framed.send(Bytes::from(codec::encode(request).map_err(io::Error::other)?)).await?;
    hear(&mut framed).await
}

/// A connection on which one frame goes each way, of at most `bytes_max`.
pub fn framed<S: Stream>(stream: S, bytes_max: usize) -> Framed<S, LengthDelimitedCodec> {
    let mut codec = LengthDelimitedCodec::builder();
    codec.max_frame_length(bytes_max);
    Framed::new(stream, codec.new_codec())
}

/// The next message on such a connection; `None` if the peer closed.
///
/// # Errors
/// As [`FrameReader::next`].
pub async fn hear<S: Stream, M: DeserializeOwned>(
    framed: &mut Framed<S, LengthDelimitedCodec>,
) -> Result<Option<M>, ReadError> {
    match framed.next().await {
        None => Ok(None),
        Some(frame) => Ok(Some(codec::decode(&frame?)?)),
    }
}

/// The direction from the peer.
pub struct FrameReader(FramedRead<ReadHalf<Transport>, LengthDelimitedCodec>);

impl FrameReader {
    /// The next message; `None` when the peer closed.
    ///
    /// # Errors
    /// If the connection failed, or what came is no message.
    pub async fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ReadError> {
        match self.0.next().await {
            None => Ok(None),
            Some(frame) => Ok(Some(codec::decode(&frame?)?)),
        }
    }
}

/// The direction to the peer. Dropping it closes the connection once what is queued was written.
pub struct FrameWriter(Writer<Bytes>);

impl FrameWriter {
    /// Queues a message; never waits.
    ///
    /// # Errors
    /// If it does not fit in a frame, the queue is full, or the connection is gone.
    pub fn send<M: Serialize>(&self, message: &M) -> Result<(), SendError> {
        let frame = Bytes::from(codec::encode(message)?);
        let bytes = frame.len();
        self.0.try_push(frame, bytes).map_err(|error| match error {
            PushError::Full(bounds, _) => SendError::Full(bounds),
            PushError::Closed(..) => SendError::Closed,
        })
    }
}

async fn write_frames(mut sink: FramedWrite<WriteHalf<Transport>, LengthDelimitedCodec>, mut queue: Reader<Bytes>) {
    while let Some(frame) = queue.next().await {
        // What waits is written together: one flush for all of it.
        let write = async {
            sink.feed(frame).await?;
            while let Ok(frame) = queue.try_pop() {
                sink.feed(frame).await?;
            }
            SinkExt::<Bytes>::flush(&mut sink).await
        };
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "the peer is gone"),
            Err(_) => return tracing::debug!("the peer does not read"),
        }
    }
    let _closed = tokio::time::timeout(WRITE_TIMEOUT, SinkExt::<Bytes>::close(&mut sink)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::message::AgentMessage;
    use tokio::io::AsyncWriteExt;
    use tokio::task::LocalSet;

    fn pair() -> ((FrameReader, FrameWriter), tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(64);
        (split(Box::new(ours)), theirs)
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_end_is_seen() {
        let run = async {
            let (ours, theirs) = tokio::io::duplex(16);
            let ((_, writer), (mut reader, _)) = (split(Box::new(ours)), split(Box::new(theirs)));
            for number in 0..100 {
                writer.send(&AgentMessage::Renew { number, used: Vec::new(), rtt_us: None }).unwrap();
            }
            drop(writer);
            for number in 0..100 {
                assert_eq!(
                    reader.next().await.unwrap(),
                    Some(AgentMessage::Renew { number, used: Vec::new(), rtt_us: None })
                );
            }
            drop(reader);
        };
        LocalSet::new().run_until(run).await;
    }

    #[tokio::test]
    async fn bad_input_4_6_20_a_length_beyond_the_bound_or_a_cut_frame_ends_the_reading() {
        for bytes in [&[0xff, 0xff, 0xff, 0xff][..], &[0x00, 0x10, 0x00, 0x01], &[0, 0, 0, 9, 0xa7]] {
            let run = async {
                let ((mut reader, _writer), mut theirs) = pair();
                theirs.write_all(bytes).await.unwrap();
                drop(theirs);
                assert!(reader.next::<AgentMessage>().await.is_err(), "{bytes:?}");
            };
            LocalSet::new().run_until(run).await;
        }
    }

    #[tokio::test]
    async fn bad_input_22_a_peer_that_never_reads_fills_a_bounded_queue() {
        let run = async {
            let ((_reader, writer), _theirs) = pair();
            let refused = (0..=FRAMES_MAX as u64)
                .find_map(|number| writer.send(&AgentMessage::Renew { number, used: Vec::new(), rtt_us: None }).err());
            assert!(matches!(refused, Some(SendError::Full(_))));
        };
        LocalSet::new().run_until(run).await;
    }
}
