//! A socket for echo messages of one IP version: raw where that is permitted, else a ping socket.
//!
//! Both have IP_RECVERR set. A ping socket is told of ICMP errors in no other way; and only with it does the kernel say that it dropped a
//! request itself, for want of room in the interface's queue (ENOBUFS; raw_sendmsg, ping_v4_push_pending_frames). Its price: the next
//! call may return what the network said of some request before. See [`send`](EchoSocket::send).
//!
//! `unsafe` because neither rustix nor socket2 has recvmmsg, the filters of ICMP sockets or SO_MEMINFO. All of it is calls with pointers
//! to values that outlive the call; what the kernel fills in are plain bytes of buffers that are initialised.

use super::{buffer, packet};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Packets a system call.
pub(super) const BATCH: usize = 64;
/// The longest message of interest is an error: the IP headers of both packets at their longest, an ICMP header and a request.
const PACKET_BYTES: usize = 192;
/// Of linux/icmp.h and linux/icmpv6.h; libc does not have them.
const SOL_RAW: libc::c_int = 255;
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
/// How often a send is made that returns what may be the network's word about a former request: it says so once for each.
const SENDS_MAX: usize = 4;
/// Room for an error's description, and for the address of who sent it.
const CONTROL_BYTES: usize = 128;

/// Of linux/sock_diag.h: what SO_MEMINFO gives, and which of it counts what was dropped.
const MEMINFO_VARS: usize = 9;
const MEMINFO_DROPS: usize = 8;

/// The socket, with room for a batch.
pub(super) struct EchoSocket {
    socket: Socket,
    v6: bool,
    raw: bool,
    buffers: Box<[[u8; PACKET_BYTES]; BATCH]>,
}

impl std::fmt::Debug for EchoSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EchoSocket")
            .field("socket", &self.socket)
            .field("v6", &self.v6)
            .field("raw", &self.raw)
            .finish()
    }
}

impl EchoSocket {
    /// Opens a socket with as large a buffer as this process may have.
    pub(super) fn open(v6: bool) -> io::Result<Self> {
        let (domain, protocol) = if v6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
        let open = |kind: Type| Socket::new_raw(domain, kind.nonblocking().cloexec(), Some(protocol));
        let (socket, raw) = match open(Type::RAW) {
            Ok(socket) => (socket, true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (open(Type::DGRAM)?, false),
            Err(error) => return Err(error),
        };
        buffer::raise(&socket);
        let (level, option) =
            if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) } else { (libc::IPPROTO_IP, libc::IP_RECVERR) };
        set(&socket, level, option, &[1])?;
        if raw {
            filter(&socket, v6)?;
        }
        Ok(Self { socket, v6, raw, buffers: Box::new([[0; PACKET_BYTES]; BATCH]) })
    }

    /// True if the identifier of what is sent is ours to choose. That of a ping socket is the kernel's, and nothing else is heard.
    pub(super) fn is_raw(&self) -> bool {
        self.raw
    }

    /// Sends one packet. An error is this machine's: what the network said of a former request is asked for again until it is told.
    pub(super) fn send(&self, to: IpAddr, bytes: &[u8]) -> io::Result<()> {
        let to = SocketAddr::new(to, 0);
        let mut sent = Ok(0);
        for _ in 0..SENDS_MAX {
            sent = rustix::net::sendto(&self.socket, bytes, SendFlags::DONTWAIT, &to);
            if !matches!(&sent, Err(error) if may_be_of_the_network(*error)) {
                break;
            }
        }
        Ok(sent.map(drop)?)
    }

    /// Passes each ICMP message that is there to `each`, with its sender, at most [`BATCH`]; returns how many.
    pub(super) fn receive(&mut self, mut each: impl FnMut(IpAddr, &[u8])) -> io::Result<usize> {
        // SAFETY: all-zero is a valid value of these structs of integers and null pointers.
        let (mut headers, mut vectors, mut names): (
            [libc::mmsghdr; BATCH],
            [libc::iovec; BATCH],
            [libc::sockaddr_in6; BATCH],
        ) = unsafe { (zeroed(), zeroed(), zeroed()) };
        for (place, buffer) in self.buffers.iter_mut().enumerate() {
            vectors[place] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: PACKET_BYTES };
            let header = &mut headers[place].msg_hdr;
            header.msg_name = (&raw mut names[place]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[place];
            header.msg_iovlen = 1;
        }
        // SAFETY: as many headers as said, each with one vector, each vector with a buffer of its length, each name with its length;
        // all outlive the call.
        let received = unsafe {
            let flags = libc::MSG_DONTWAIT;
            libc::recvmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), BATCH as u32, flags, std::ptr::null_mut())
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for place in 0..received.min(BATCH) {
            let length = (headers[place].msg_len as usize).min(PACKET_BYTES);
            let bytes = &self.buffers[place][..length];
            let icmp = if self.raw && !self.v6 { packet::without_ipv4_header(bytes) } else { Some(bytes) };
            if let (Some(from), Some(icmp)) = (sender(&names[place]), icmp) {
                each(from, icmp);
            }
        }
        Ok(received)
    }

    /// Passes the next ICMP error to `each`: type, code, whom the request was sent to, and what is quoted of it after its IP header.
    /// False if there is none.
    pub(super) fn receive_error(&mut self, each: impl FnOnce(u8, u8, IpAddr, &[u8])) -> bool {
        let mut control = Control([0; CONTROL_BYTES]);
        let buffer = &mut self.buffers[0];
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: PACKET_BYTES };
        // SAFETY: all-zero is a valid value of these structs of integers and null pointers.
        let (mut header, mut name): (libc::msghdr, libc::sockaddr_in6) = unsafe { (zeroed(), zeroed()) };
        header.msg_name = (&raw mut name).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        (header.msg_iov, header.msg_iovlen) = (&raw mut vector, 1);
        (header.msg_control, header.msg_controllen) = (control.0.as_mut_ptr().cast(), CONTROL_BYTES as _);
        // SAFETY: name, vector, its buffer and control are as long as said; all outlive the call.
        let received =
            unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
        let Ok(received) = usize::try_from(received) else { return false };
        if let (Some((kind, code)), Some(to)) = (described(&header), sender(&name)) {
            each(kind, code, to, &self.buffers[0][..received.min(PACKET_BYTES)]);
        }
        true
    }

    /// How many messages this socket's buffer had no room for, since it was opened (modulo 2^32).
    pub(super) fn dropped(&self) -> io::Result<u32> {
        let mut values = [0_u32; MEMINFO_VARS];
        let mut length = size_of_val(&values) as libc::socklen_t;
        // SAFETY: points to as many bytes as are said, and to that length.
        let asked = unsafe {
            let value = values.as_mut_ptr().cast();
            let socket = self.socket.as_raw_fd();
            libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, value, &raw mut length)
        };
        if asked == 0 { Ok(values[MEMINFO_DROPS]) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for EchoSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Lets replies and errors through, and nothing else: a raw socket would be told of every echo request to this machine as well.
fn filter(socket: &Socket, v6: bool) -> io::Result<()> {
    // A bit that is set blocks its type.
    let mut blocked = [u32::MAX; 8];
    let passed: &[usize] = if v6 { &[1, 2, 3, 4, 129] } else { &[0, 3, 11, 12] };
    for kind in passed {
        blocked[kind / 32] &= !(1 << (kind % 32));
    }
    if v6 {
        set(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)
    } else {
        set(socket, SOL_RAW, ICMP_FILTER, &blocked[..1])
    }
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: &[u32]) -> io::Result<()> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: points to as many bytes as are said; they are read during the call only.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What `icmp_err_convert` and `tab_unreach` of the kernel make of ICMP errors. What routes say looks the same, and stays.
fn may_be_of_the_network(error: Errno) -> bool {
    matches!(
        error,
        Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::CONNREFUSED
            | Errno::ACCESS
            | Errno::NOPROTOOPT
            | Errno::OPNOTSUPP
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::PROTO
            | Errno::MSGSIZE
    )
}

/// Room for control messages, aligned as they are.
#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

/// ICMP type and code of an error, of its control message.
fn described(header: &libc::msghdr) -> Option<(u8, u8)> {
    // SAFETY: the kernel filled in the control buffer that `header` points to, which is aligned and outlives this call.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: the message is not null, so it lies whole within the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if matches!((level, kind), (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)) {
            // SAFETY: messages of this kind begin with this struct of integers; it may lie unaligned.
            let error = unsafe { libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned() };
            let from_icmp = matches!(error.ee_origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6);
            return from_icmp.then_some((error.ee_type, error.ee_code));
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

/// The sender, as the kernel wrote it into room for the longer kind of address.
fn sender(name: &libc::sockaddr_in6) -> Option<IpAddr> {
    match libc::c_int::from(name.sin6_family) {
        libc::AF_INET6 => Some(Ipv6Addr::from(name.sin6_addr.s6_addr).into()),
        // sockaddr_in has its address where the longer kind has flow information, in the order of the network.
        libc::AF_INET => Some(Ipv4Addr::from(name.sin6_flowinfo.to_ne_bytes()).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_read_from_either_kind_of_address() {
        // SAFETY: all-zero is a valid value of this struct of integers.
        let mut name: libc::sockaddr_in6 = unsafe { zeroed() };
        assert_eq!(sender(&name), None);
        name.sin6_family = libc::AF_INET6 as u16;
        name.sin6_addr.s6_addr[15] = 1;
        assert_eq!(sender(&name), Some(Ipv6Addr::LOCALHOST.into()));
        let v4 = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([192, 0, 2, 7]) },
            sin_zero: [0; 8],
        };
        // SAFETY: the source is shorter than the destination, and both are plain integers.
        unsafe {
            std::ptr::copy_nonoverlapping((&raw const v4).cast::<u8>(), (&raw mut name).cast::<u8>(), size_of_val(&v4))
        };
        assert_eq!(sender(&name), Some(Ipv4Addr::new(192, 0, 2, 7).into()));
    }
}
