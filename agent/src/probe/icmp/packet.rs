//! The bytes of echo requests, replies, and errors that quote a request.
//!
//! Whatever arrives may be cut short or made up: every length is looked at, and what does not fit is nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The header of an echo message.
const HEADER: usize = 8;
/// An echo request: its header and the token.
pub(super) const REQUEST: usize = HEADER + Token::BYTES;
const IPV4_HEADER_MIN: usize = 20;
const IPV6_HEADER: usize = 40;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// What a request carries to tell it from every other: whose it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Drawn by this prober.
    pub(super) nonce: u64,
    /// The flight.
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl Token {
    const BYTES: usize = 16;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.place.to_be_bytes());
        bytes[12..].copy_from_slice(&self.generation.to_be_bytes());
        bytes
    }

    /// Whether these bytes, which may be cut short, are of this token.
    pub(super) fn begins_with(self, bytes: &[u8]) -> bool {
        let ours = self.to_bytes();
        let length = bytes.len().min(ours.len());
        ours[..length] == bytes[..length]
    }
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard<'packet> {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// Whom the request was sent to, by the error that quotes it; `None` for a reply.
    pub(super) quoted_to: Option<IpAddr>,
    pub(super) identifier: u16,
    pub(super) sequence: u16,
    /// What there is of the request's token: all of it in a reply.
    pub(super) token: &'packet [u8],
}

/// An echo request. The kernel adds the checksum of ICMPv6, and that of a ping socket.
pub(super) fn request(v6: bool, identifier: u16, sequence: u16, token: Token) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0] = if v6 { 128 } else { 8 };
    bytes[4..6].copy_from_slice(&identifier.to_be_bytes());
    bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[HEADER..].copy_from_slice(&token.to_bytes());
    if !v6 {
        let checksum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// RFC 1071, of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// Takes the IP header off that a raw socket of IPv4 gives with every packet.
pub(super) fn without_ipv4_header(packet: &[u8]) -> Option<&[u8]> {
    let (header, rest) = ipv4_header(packet)?;
    (header[9] == PROTOCOL_ICMP).then_some(rest)
}

/// Reads an ICMP message.
pub(super) fn read_v4(icmp: &[u8]) -> Option<Heard<'_>> {
    let (&[kind, code, ..], rest) = icmp.split_first_chunk::<HEADER>()?;
    match kind {
        0 => echo(icmp, kind, code, None),
        3 | 11 | 12 => {
            let (header, quoted) = ipv4_header(rest)?;
            let to: [u8; 4] = header[16..20].try_into().ok()?;
            let to = Ipv4Addr::from(to).into();
            (header[9] == PROTOCOL_ICMP).then(|| read_quoted(false, kind, code, to, quoted)).flatten()
        }
        _ => None,
    }
}

/// Reads an ICMPv6 message.
pub(super) fn read_v6(icmp: &[u8]) -> Option<Heard<'_>> {
    let (&[kind, code, ..], rest) = icmp.split_first_chunk::<HEADER>()?;
    match kind {
        129 => echo(icmp, kind, code, None),
        1..=4 => {
            let (header, quoted) = rest.split_first_chunk::<IPV6_HEADER>()?;
            let to: [u8; 16] = header[24..].try_into().ok()?;
            let (to, is_icmp) = (Ipv6Addr::from(to).into(), header[0] >> 4 == 6 && header[6] == PROTOCOL_ICMPV6);
            is_icmp.then(|| read_quoted(true, kind, code, to, quoted)).flatten()
        }
        _ => None,
    }
}

/// Reads what an error quotes of a request to `to`, from its ICMP header on.
pub(super) fn read_quoted(v6: bool, kind: u8, code: u8, to: IpAddr, quoted: &[u8]) -> Option<Heard<'_>> {
    let request = if v6 { 128 } else { 8 };
    (quoted.first() == Some(&request)).then(|| echo(quoted, kind, code, Some(to))).flatten()
}

/// Header and rest; the header is at least as long as the shortest.
fn ipv4_header(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *packet.first()?;
    let length = usize::from(first & 0x0f) * 4;
    (first >> 4 == 4 && length >= IPV4_HEADER_MIN).then(|| packet.split_at_checked(length)).flatten()
}

/// `echo` is an echo message, or the part of one that is quoted.
fn echo(echo: &[u8], kind: u8, code: u8, quoted_to: Option<IpAddr>) -> Option<Heard<'_>> {
    let (&[_, _, _, _, a, b, c, d], token) = echo.split_first_chunk::<HEADER>()?;
    // An error may quote as little as the header. A reply holds all that was sent.
    if quoted_to.is_none() && token.len() < Token::BYTES {
        return None;
    }
    let (identifier, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Some(Heard { kind, code, quoted_to, identifier, sequence, token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOKEN: Token = Token { nonce: 0x0102_0304_0506_0708, place: 9, generation: 10 };

    /// An error from a router that quotes `quoted`, sent to 192.0.2.7 or 2001:db8::7.
    fn error(v6: bool, kind: u8, quoted: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 1, 0, 0, 0, 0, 0, 0];
        if v6 {
            let mut header = [0; IPV6_HEADER];
            (header[0], header[6]) = (0x60, PROTOCOL_ICMPV6);
            header[24..].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
            bytes.extend(header);
        } else {
            let mut header = [0; IPV4_HEADER_MIN];
            (header[0], header[9]) = (0x45, PROTOCOL_ICMP);
            header[16..].copy_from_slice(&[192, 0, 2, 7]);
            bytes.extend(header);
        }
        bytes.extend(quoted);
        bytes
    }

    #[test]
    fn a_request_has_a_checksum_that_adds_up() {
        let bytes = request(false, 0x1234, 0xfffe, TOKEN);
        assert_eq!(bytes[..8], [8, 0, bytes[2], bytes[3], 0x12, 0x34, 0xff, 0xfe]);
        assert_eq!(checksum(&bytes), 0);
        assert_eq!(request(true, 0x1234, 1, TOKEN)[..4], [128, 0, 0, 0]);
    }

    #[test]
    fn replies_and_errors_name_the_request() {
        for (v6, reply, unreachable) in [(false, 0, 3), (true, 129, 1)] {
            let read = if v6 { read_v6 } else { read_v4 };
            let mut bytes = request(v6, 77, 78, TOKEN);
            let sent = bytes;
            bytes[0] = reply;
            let heard = read(&bytes).unwrap();
            assert_eq!((heard.kind, heard.quoted_to, heard.identifier, heard.sequence), (reply, None, 77, 78));
            assert!(TOKEN.begins_with(heard.token) && heard.token.len() == Token::BYTES);
            // Quoted whole, cut within the token, and as short as the standard permits.
            for length in [REQUEST, REQUEST - 5, HEADER] {
                let quoting = error(v6, unreachable, &sent[..length]);
                let heard = read(&quoting).unwrap();
                let to: IpAddr = if v6 { "2001:db8::7" } else { "192.0.2.7" }.parse().unwrap();
                assert_eq!((heard.quoted_to, heard.identifier, heard.sequence), (Some(to), 77, 78));
                assert!(TOKEN.begins_with(heard.token));
                assert!(length == HEADER || !Token { nonce: 1, ..TOKEN }.begins_with(heard.token));
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_quotes_something_else_is_nothing() {
        for (v6, reply, unreachable) in [(false, 0, 3), (true, 129, 1)] {
            let read = if v6 { read_v6 } else { read_v4 };
            let sent = request(v6, 77, 78, TOKEN);
            let whole = error(v6, unreachable, &sent[..HEADER]);
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), None, "an error of {length} bytes");
            }
            let mut bytes = sent;
            bytes[0] = reply;
            for length in 0..REQUEST {
                assert_eq!(read(&bytes[..length]), None, "a reply of {length} bytes");
            }
            assert_eq!(read(&sent), None, "a request is no answer");
            assert_eq!(read(&error(v6, unreachable, &bytes)), None, "an error that quotes a reply");
            let mut udp = whole;
            udp[if v6 { HEADER + 6 } else { HEADER + 9 }] = 17;
            assert_eq!(read(&udp), None, "an error that quotes UDP");
        }
        assert_eq!(without_ipv4_header(&[0x44; 64]), None, "a header shorter than the shortest");
        assert_eq!(without_ipv4_header(&[0x4f; 59]), None, "a header longer than the packet");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(mut bytes in prop::collection::vec(any::<u8>(), 0..120), first in 0..20_u8) {
            let _ = without_ipv4_header(&bytes);
            if let Some(kind) = bytes.first_mut() {
                *kind = first;
            }
            let _ = (read_v4(&bytes), read_v6(&bytes));
        }
    }
}
