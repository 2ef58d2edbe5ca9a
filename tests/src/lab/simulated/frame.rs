//! Ethernet frames: what of them is a question to a simulated network, and the answers that hosts give. Bytes are read and written
//! by etherparse; nothing here decides.
//!
//! Checksums of what arrives are not looked at: over a veth the system leaves that of a SYN to hardware that does not exist.

use std::net::IpAddr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, IpHeaders, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice,
};

/// Room for an echo request as any scanner sends it, and its answer.
const FRAME_BYTES_MAX: usize = 192;
/// The hardware address of the gateway behind which the network lies.
pub(super) const GATEWAY: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const SCANNER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const TTL: u8 = 64;
const ETHERNET_BYTES: usize = 14;

/// A frame, without allocation.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    len: u8,
    bytes: [u8; FRAME_BYTES_MAX],
}

impl Frame {
    /// What is sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// A frame of these bytes; `None` if they are too many.
    #[cfg(test)]
    pub(super) fn copied(bytes: &[u8]) -> Option<Self> {
        Self::written(|room| {
            room.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(bytes.len())
        })
    }

    fn written(write: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Self> {
        let mut bytes = [0; FRAME_BYTES_MAX];
        let len = u8::try_from(write(&mut bytes)?).ok()?;
        Some(Self { len, bytes })
    }
}

/// A question to a host: who asks whom, and what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'frame> {
    pub(super) scanner: IpAddr,
    pub(super) target: IpAddr,
    pub(super) asks: Asks<'frame>,
    scanner_mac: [u8; 6],
    /// The IP packet.
    packet: &'frame [u8],
}

/// A SYN as a scanner sends it.
pub(super) fn syn(scanner: IpAddr, target: IpAddr, from: u16, to: u16) -> Option<Frame> {
    let step = PacketBuilder::ethernet2(SCANNER_MAC, GATEWAY);
    let step = match (scanner, target) {
        (IpAddr::V4(scanner), IpAddr::V4(target)) => step.ipv4(scanner.octets(), target.octets(), TTL),
        (IpAddr::V6(scanner), IpAddr::V6(target)) => step.ipv6(scanner.octets(), target.octets(), TTL),
        _ => return None,
    };
    let tcp = step.tcp(from, to, 7, 1024).syn();
    Frame::written(|room| tcp.write_to_slice(room, &[]).ok())
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asks<'frame> {
    /// A SYN.
    Port { from: u16, to: u16, sequence: u32 },
    /// An echo request: identifier and sequence as four bytes, and the payload.
    Echo { name: [u8; 4], payload: &'frame [u8] },
}

/// What a frame is to the network.
#[derive(Debug)]
pub(super) enum Heard<'frame> {
    /// A question to a host.
    Question(Question<'frame>),
    /// Who has the gateway's address? The answer.
    Neighbour(Option<Frame>),
    /// Nothing that is answered.
    Other,
}

/// What a host answers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// SYN-ACK with a sequence number and a window, from `from`.
    Accept { from: u16, sequence: u32, window: u16 },
    /// RST that takes up the SYN.
    Refuse,
    /// RST of a connection that was accepted with `sequence`.
    Reset { sequence: u32 },
    /// Echo reply.
    Echo,
    /// ICMP: administratively prohibited, quoting so many bytes of the question, to the address `quoted`.
    Prohibited { quoted: IpAddr, bytes: usize },
}

/// Reads a frame.
pub(super) fn read(frame: &[u8]) -> Heard<'_> {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return Heard::Other };
    let (scanner, target) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        Some(NetSlice::Arp(arp)) => {
            return match arp.to_packet().try_eth_ipv4() {
                Ok(question) if question.operation == ArpOperation::REQUEST => Heard::Neighbour(here(&question)),
                _ => Heard::Other,
            };
        }
        None => return Heard::Other,
    };
    let asks = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) if tcp.syn() && !tcp.ack() && !tcp.rst() => {
            Asks::Port { from: tcp.source_port(), to: tcp.destination_port(), sequence: tcp.sequence_number() }
        }
        Some(TransportSlice::Icmpv4(icmp)) if icmp.type_u8() == 8 => echo(icmp.slice()),
        Some(TransportSlice::Icmpv6(icmp)) if icmp.type_u8() == 128 => echo(icmp.slice()),
        _ => return Heard::Other,
    };
    let (mut scanner_mac, packet) = ([0; 6], &frame[ETHERNET_BYTES..]);
    scanner_mac.copy_from_slice(&frame[6..12]);
    Heard::Question(Question { scanner, target, asks, scanner_mac, packet })
}

/// `icmp` is at least the header of eight bytes: else it would have been no ICMP.
fn echo(icmp: &[u8]) -> Asks<'_> {
    Asks::Echo { name: [icmp[4], icmp[5], icmp[6], icmp[7]], payload: &icmp[8..] }
}

/// Every IPv4 address that is asked for is behind the gateway.
fn here(question: &ArpEthIpv4Packet) -> Option<Frame> {
    let answer = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: GATEWAY,
        sender_ipv4: question.target_ipv4,
        target_mac: question.sender_mac,
        target_ipv4: question.sender_ipv4,
    };
    let packet = PacketBuilder::ethernet2(GATEWAY, question.sender_mac).arp(answer.into());
    Frame::written(|room| packet.write_to_slice(room).ok())
}

impl Question<'_> {
    /// The frame with an answer that comes from `source`. `None` if it does not fit, or if the question has no such answer.
    pub(super) fn answer(&self, source: IpAddr, answer: Answer) -> Option<Frame> {
        let step = self.headers(source)?;
        match (answer, self.asks) {
            (Answer::Accept { from, sequence, window }, Asks::Port { from: to, sequence: asked, .. }) => {
                let tcp = step.tcp(from, to, sequence, window).syn().ack(asked.wrapping_add(1));
                Frame::written(|room| tcp.write_to_slice(room, &[]).ok())
            }
            (Answer::Refuse, Asks::Port { from, to, sequence }) => {
                let tcp = step.tcp(to, from, 0, 0).rst().ack(sequence.wrapping_add(1));
                Frame::written(|room| tcp.write_to_slice(room, &[]).ok())
            }
            (Answer::Reset { sequence }, Asks::Port { from, to, sequence: asked }) => {
                let tcp = step.tcp(to, from, sequence.wrapping_add(1), 0).rst().ack(asked.wrapping_add(1));
                Frame::written(|room| tcp.write_to_slice(room, &[]).ok())
            }
            (Answer::Echo, Asks::Echo { name, payload }) => self.icmp(step, (0, 129), 0, name, payload),
            (Answer::Prohibited { quoted, bytes }, _) => {
                let mut quote = [0; 64];
                let bytes = bytes.min(quote.len()).min(self.packet.len());
                quote[..bytes].copy_from_slice(&self.packet[..bytes]);
                self.readdress(&mut quote[..bytes], quoted);
                // Code 13 of IPv4 and code 1 of IPv6 are both "communication administratively prohibited".
                let code = if self.target.is_ipv4() { 13 } else { 1 };
                self.icmp(step, (3, 1), code, [0; 4], &quote[..bytes])
            }
            _ => None,
        }
    }

    /// The bytes of the question's IP header and the first eight after it: what an ICMP error quotes.
    pub(super) fn quoted_bytes(&self) -> usize {
        self.header_bytes() + 8
    }

    /// As [`quoted_bytes`](Self::quoted_bytes), without those after the header.
    pub(super) fn header_bytes(&self) -> usize {
        if self.target.is_ipv4() { 20 } else { 40 }
    }

    fn headers(&self, source: IpAddr) -> Option<PacketBuilderStep<IpHeaders>> {
        let step = PacketBuilder::ethernet2(GATEWAY, self.scanner_mac);
        match (source, self.scanner) {
            (IpAddr::V4(source), IpAddr::V4(scanner)) => Some(step.ipv4(source.octets(), scanner.octets(), TTL)),
            (IpAddr::V6(source), IpAddr::V6(scanner)) => Some(step.ipv6(source.octets(), scanner.octets(), TTL)),
            _ => None,
        }
    }

    fn icmp(
        &self,
        step: PacketBuilderStep<IpHeaders>,
        (v4, v6): (u8, u8),
        code: u8,
        rest: [u8; 4],
        payload: &[u8],
    ) -> Option<Frame> {
        if self.target.is_ipv4() {
            let icmp = step.icmpv4_raw(v4, code, rest);
            Frame::written(|room| icmp.write_to_slice(room, payload).ok())
        } else {
            let icmp = step.icmpv6_raw(v6, code, rest);
            Frame::written(|room| icmp.write_to_slice(room, payload).ok())
        }
    }

    /// Writes another destination into the quoted header; its checksum is left as it is, which no receiver looks at.
    fn readdress(&self, quote: &mut [u8], to: IpAddr) {
        match to {
            _ if to == self.target => {}
            IpAddr::V4(to) => quote[16..20].copy_from_slice(&to.octets()),
            IpAddr::V6(to) => quote[24..40].copy_from_slice(&to.octets()),
        }
    }
}
