//! Echo requests for an engine's thread: one socket an IP version, opened when first needed.
//!
//! A way is a sequence number. An answer counts if all hold: 1. its sequence number is in the air; 2. its identifier is ours; 3. it comes
//! from the address that was asked, or quotes a request to it; 4. it carries, or quotes as far as it quotes, the token of the flight.
//! So a late answer, one that comes twice and one that quotes somebody else's request mean nothing (E3).

use super::packet::{self, Heard, Token};
use super::socket::{BATCH, EchoSocket};
use super::{buffer, judge};
use crate::limits::Lack;
use crate::probe::engine::{Answer, Means, Name};
use crate::scope::Admitted;
use agent_core::attempt::Probe;
use protocol::probe::{Outcome, Slot};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

/// Sequence numbers: no more requests are in the air.
const SEQUENCES: usize = 1 << 16;
/// Batches that are taken in before timeouts are looked at again: whatever a full buffer holds, so that no answer that waits there is
/// taken for silence; and not more, so that a flood holds nothing up.
const BATCHES_MAX: usize = 512;
/// Requests in flight, for each answer that the buffer holds: answers come spread over a round trip, and the buffer need only hold
/// what comes while the thread does not run.
const IN_FLIGHT_PER_ANSWER: usize = 4;
/// Where even the buffer's size is not known.
const IN_FLIGHT_MIN: usize = 256;

/// What a request in the air is.
#[derive(Clone, Copy, Debug)]
struct Asked {
    name: Name,
    address: IpAddr,
}

/// The sockets, and what is in the air.
#[derive(Debug)]
pub(in crate::probe) struct Echoes {
    nonce: u64,
    /// IPv4 and IPv6; an event's token is the place here.
    sockets: [Option<EchoSocket>; 2],
    /// What each socket's buffer had dropped when it was last looked at.
    dropped: [u32; 2],
    /// By sequence number.
    asked: Vec<Option<Asked>>,
    /// The one that was used longest ago comes first.
    free: VecDeque<u16>,
}

impl Echoes {
    /// Nothing was sent yet. `nonce` tells its requests from those of everybody else.
    pub(in crate::probe) fn new(nonce: u64) -> Self {
        Self { nonce, sockets: [None, None], dropped: [0; 2], asked: Vec::new(), free: VecDeque::new() }
    }

    /// Beyond what is in flight, so many that are overdue are listened for: that costs no socket, only sequence numbers.
    pub(in crate::probe) const LISTENING: usize = SEQUENCES / 2;

    /// How many requests may be in flight.
    pub(in crate::probe) fn in_flight_max() -> usize {
        (buffer::answers() * IN_FLIGHT_PER_ANSWER).clamp(IN_FLIGHT_MIN, SEQUENCES / 2)
    }

    fn token(&self, name: Name) -> Token {
        Token { nonce: self.nonce, place: name.place, generation: name.generation }
    }

    fn identifier(&self) -> u16 {
        self.nonce as u16
    }

    fn free(&mut self, way: u32) -> Option<Asked> {
        let sequence = u16::try_from(way).ok()?;
        self.free.push_back(sequence);
        self.asked.get_mut(way as usize)?.take()
    }

    /// What an answer is to: see the four conditions above.
    fn meant(&self, raw: bool, from: IpAddr, heard: &Heard<'_>) -> Option<Name> {
        let asked = (*self.asked.get(usize::from(heard.sequence))?)?;
        let ours = !raw || heard.identifier == self.identifier();
        let asked_there = asked.address == heard.quoted_to.unwrap_or(from);
        (ours && asked_there && self.token(asked.name).begins_with(heard.token)).then_some(asked.name)
    }

    fn take(&mut self, family: usize, raw: bool, from: IpAddr, icmp: &[u8]) -> Option<Answer> {
        let heard = if family == 1 { packet::read_v6(icmp) } else { packet::read_v4(icmp) }?;
        self.take_heard(family, raw, from, &heard)
    }

    fn take_heard(&mut self, family: usize, raw: bool, from: IpAddr, heard: &Heard<'_>) -> Option<Answer> {
        let name = self.meant(raw, from, heard)?;
        self.free(heard.sequence.into());
        let outcome = if family == 1 { judge::v6(heard.kind, heard.code) } else { judge::v4(heard.kind, heard.code) };
        Some(Answer { name, outcome })
    }

    /// Tells if answers were lost for want of room.
    fn watch_drops(&mut self, family: usize, socket: &EchoSocket) {
        let Ok(dropped) = socket.dropped() else { return };
        if dropped != self.dropped[family] {
            self.dropped[family] = dropped;
            Lack::ReceiveBuffer.tell();
        }
    }
}

impl Means for Echoes {
    fn ready(&mut self, epoll: &OwnedFd, probe: &Probe) -> io::Result<u32> {
        let family = family(probe.target.address);
        if self.sockets[family].is_none() {
            let socket = EchoSocket::open(family == 1)?;
            epoll::add(epoll, &socket, EventData::new_u64(family as u64), EventFlags::IN)?;
            self.dropped[family] = socket.dropped().unwrap_or(0);
            self.sockets[family] = Some(socket);
        }
        if let Some(sequence) = self.free.pop_front() {
            return Ok(sequence.into());
        }
        if self.asked.len() >= SEQUENCES {
            return Err(Errno::NOBUFS.into());
        }
        self.asked.push(None);
        Ok((self.asked.len() - 1) as u32)
    }

    fn send(&mut self, way: u32, name: Name, probe: &Probe, admitted: &Admitted) -> io::Result<()> {
        let address = admitted.address();
        let sent = match (probe.target.slot, &self.sockets[family(address)], u16::try_from(way)) {
            (Slot::Ping, Some(socket), Ok(sequence)) => {
                let bytes = packet::request(address.is_ipv6(), self.identifier(), sequence, self.token(name));
                socket.send(address, &bytes)
            }
            _ => Err(Errno::INVAL.into()),
        };
        match (&sent, self.asked.get_mut(way as usize)) {
            (Ok(()), Some(place)) => *place = Some(Asked { name, address }),
            _ => drop(self.free(way)),
        }
        sent
    }

    fn hear(&mut self, token: u64, answers: &mut Vec<Answer>) {
        let family = usize::from(token == 1);
        let Some(mut socket) = self.sockets[family].take() else { return };
        let raw = socket.is_raw();
        for _ in 0..BATCHES_MAX {
            let received = socket.receive(|from, icmp| answers.extend(self.take(family, raw, from, icmp)));
            match received {
                Ok(BATCH) => {}
                Ok(_) => break,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => break,
                // What the network said of some request and what a signal interrupted: the next call goes on.
                Err(_) => {}
            }
        }
        // A raw socket was told of them above as well; here they only take room.
        let mut errors = 0;
        while errors < BATCH * BATCHES_MAX
            && socket.receive_error(|kind, code, to, quoted| {
                let heard = packet::read_quoted(family == 1, kind, code, to, quoted).filter(|_| !raw);
                answers.extend(heard.and_then(|heard| self.take_heard(family, raw, to, &heard)));
            })
        {
            errors += 1;
        }
        self.watch_drops(family, &socket);
        self.sockets[family] = Some(socket);
    }

    fn give_up(&mut self, way: u32, _: Name, _: &Probe, _: bool) -> Outcome {
        self.free(way);
        Outcome::DOWN
    }

    fn release(&mut self, way: u32) {
        self.free(way);
    }

    fn mend(&mut self, way: Option<u32>, token: Option<u64>) -> Option<Name> {
        // A socket that was being read is closed already.
        if let Some(token) = token {
            self.sockets[usize::from(token == 1)] = None;
        }
        self.free(way?).map(|asked| asked.name)
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.to_canonical().is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name { place: 3, generation: 4 };

    fn v4(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// One request in the air, with sequence number 0, to 192.0.2.7.
    fn asking() -> Echoes {
        let mut echoes = Echoes::new(0xabcd_0000_0000_1234);
        echoes.asked.push(Some(Asked { name: NAME, address: v4(7) }));
        echoes
    }

    fn reply(echoes: &Echoes, sequence: u16, name: Name) -> Vec<u8> {
        let mut bytes = packet::request(false, echoes.identifier(), sequence, echoes.token(name)).to_vec();
        bytes[0] = 0;
        bytes
    }

    /// Host unreachable, quoting so many bytes of a request to `to`.
    fn error(echoes: &Echoes, to: IpAddr, name: Name, bytes: usize) -> Vec<u8> {
        let IpAddr::V4(to) = to else { panic!("an IPv4 address") };
        let mut header = [0; 20];
        (header[0], header[9]) = (0x45, 1);
        header[16..].copy_from_slice(&to.octets());
        let quoted = packet::request(false, echoes.identifier(), 0, echoes.token(name));
        [&[3, 1, 0, 0, 0, 0, 0, 0], &header[..], &quoted[..bytes]].concat()
    }

    #[test]
    fn the_answer_to_a_request_counts_once() {
        let mut echoes = asking();
        let bytes = reply(&echoes, 0, NAME);
        assert_eq!(echoes.take(0, true, v4(7), &bytes), Some(Answer { name: NAME, outcome: Outcome::UP }));
        assert_eq!(echoes.take(0, true, v4(7), &bytes), None, "a second time");
        assert_eq!(echoes.free, [0]);
    }

    #[test]
    fn answers_to_others_and_from_others_and_of_former_times_mean_nothing() {
        let mut echoes = asking();
        let (good, former) = (reply(&echoes, 0, NAME), reply(&echoes, 0, Name { generation: 3, ..NAME }));
        let mut foreign = good.clone();
        foreign[5] ^= 1;
        for (why, from, bytes) in [
            ("from another address", v4(8), good.clone()),
            ("of a former flight", v4(7), former),
            ("to another identifier", v4(7), foreign),
            ("to a sequence number that is not in the air", v4(7), reply(&echoes, 1, NAME)),
            ("an error that quotes a request to another", v4(7), error(&echoes, v4(8), NAME, 24)),
            ("one that quotes a former flight", v4(7), error(&echoes, v4(7), Name { place: 9, ..NAME }, 24)),
        ] {
            assert_eq!(echoes.take(0, true, from, &bytes), None, "{why}");
        }
        // The kernel matched what a ping socket hears: its identifier is not the one that was asked for.
        let mut by_kernel = good;
        by_kernel[4] ^= 0xff;
        assert!(echoes.take(0, false, v4(7), &by_kernel).is_some());
    }

    #[test]
    fn an_error_from_anywhere_that_quotes_the_request_counts() {
        for bytes in [8, 12, 24] {
            let mut echoes = asking();
            let quoting = error(&echoes, v4(7), NAME, bytes);
            let answer = echoes.take(0, true, v4(200), &quoting);
            assert_eq!(answer.map(|answer| (answer.name, answer.outcome)), Some((NAME, judge::v4(3, 1))));
        }
    }
}
