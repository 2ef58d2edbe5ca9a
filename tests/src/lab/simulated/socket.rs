//! A raw socket on one interface (packet(7)), many frames a system call.
//!
//! `unsafe` since neither the standard library nor socket2 has recvmmsg, sendmmsg or the addresses of packet sockets. All of it is
//! calls with pointers to values that outlive the call; what the kernel fills in are plain bytes of buffers that are initialised.

use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, SystemTime};

use super::frame::Frame;

/// Frames a system call.
pub(super) const BATCH: usize = 64;
/// Longer frames are cut: none that is answered is.
const FRAME_BYTES: usize = 256;
/// What the kernel keeps for us while we do something else: a second of questions.
const BUFFER_BYTES: libc::c_int = 256 << 20;
/// Room for the time that the kernel writes beside a frame, aligned as a `cmsghdr` has to be.
type Control = [u64; 8];

/// The socket, with room for a batch.
pub(super) struct PacketSocket {
    socket: OwnedFd,
    buffers: Box<[[u8; FRAME_BYTES]; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

impl PacketSocket {
    /// Opens a socket that sees whatever arrives on `interface` of the calling thread's namespace, and nothing that leaves by it.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        // Protocol 0: nothing is received before the socket is bound to its interface.
        // SAFETY: takes integers, returns a new descriptor or an error.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
        check(fd as isize)?;
        // SAFETY: the descriptor was just made and is owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, BUFFER_BYTES)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, 1)?;
        let name = CString::new(interface).map_err(io::Error::other)?;
        // SAFETY: points to a string that ends with a zero.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero is a valid value of this struct of integers.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = index as i32;
        // SAFETY: points to an address of the length that is said.
        let bound = unsafe {
            libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        check(bound as isize)?;
        let (buffers, controls) = (Box::new([[0; FRAME_BYTES]; BATCH]), Box::new([[0; 8]; BATCH]));
        Ok(Self { socket, buffers, controls })
    }

    /// Passes each frame that is there to `each`, at most [`BATCH`], with how long ago it arrived; returns how many.
    pub(super) fn receive(&mut self, mut each: impl FnMut(Duration, &[u8])) -> io::Result<usize> {
        // SAFETY: all-zero is a valid value: no name, no buffers, no control.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        // SAFETY: all-zero is a valid value of a pointer and a length.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        let places = self.buffers.iter_mut().zip(self.controls.iter_mut());
        for ((header, vector), (buffer, control)) in headers.iter_mut().zip(&mut vectors).zip(places) {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: FRAME_BYTES };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<Control>();
        }
        // SAFETY: as many headers as said, each with one vector and a buffer for control, each of its length; all outlive the call.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Some(received) = would_block(check(received as isize))? else { return Ok(0) };
        let now = wall_clock();
        for (header, buffer) in headers.iter().zip(self.buffers.iter()).take(received) {
            let age = arrived_at(&header.msg_hdr).map_or(Duration::ZERO, |at| now.saturating_sub(at));
            each(age, &buffer[..(header.msg_len as usize).min(FRAME_BYTES)]);
        }
        Ok(received)
    }

    /// Sends frames, at most [`BATCH`]; returns how many of them, from the first, were taken. 0: not now.
    pub(super) fn send(&self, frames: &[Frame]) -> io::Result<usize> {
        // SAFETY: as in `receive`.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        // SAFETY: as in `receive`.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        let count = frames.len().min(BATCH);
        for ((header, vector), frame) in headers.iter_mut().zip(&mut vectors).zip(frames) {
            let bytes = frame.bytes();
            // The kernel only reads what is sent: the pointer is mutable for want of another type.
            *vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: as in `receive`.
        let sent =
            unsafe { libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT) };
        Ok(would_block(check(sent as isize))?.unwrap_or(0))
    }

    /// How many frames found no room since the last call.
    pub(super) fn missed(&self) -> io::Result<u64> {
        // SAFETY: all-zero is a valid value of this struct of integers.
        let mut counts: libc::tpacket_stats = unsafe { zeroed() };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: points to a value of the length that is said, and to that length.
        let asked = unsafe {
            let value = (&raw mut counts).cast();
            libc::getsockopt(self.socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, value, &raw mut length)
        };
        check(asked as isize)?;
        Ok(counts.tp_drops.into())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// When the kernel took a frame in, since the epoch (SO_TIMESTAMPNS, socket(7)).
fn arrived_at(header: &libc::msghdr) -> Option<Duration> {
    // SAFETY: the header was filled in by recvmmsg, and its buffers live; what is read lies within the control messages that it wrote.
    let time = unsafe {
        let control = libc::CMSG_FIRSTHDR(header).as_ref()?;
        let is_time = (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS);
        is_time.then(|| libc::CMSG_DATA(control).cast::<libc::timespec>().read_unaligned())?
    };
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[expect(clippy::disallowed_methods, reason = "the kernel's times of arrival are of this clock")]
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Waits until one of two descriptors can be read, at most `timeout`.
pub(super) fn wait(either: BorrowedFd<'_>, or: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let entry = |fd: RawFd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut entries = [entry(either.as_raw_fd()), entry(or.as_raw_fd())];
    let time = timeout.map(|timeout| libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), |time| &raw const *time);
    // SAFETY: two entries, as said; the time is null or outlives the call; no signals are masked.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), 2, time, std::ptr::null()) };
    match check(ready as isize) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: points to an integer of the length that is said.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    check(done as isize).map(drop)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// `None` where there is nothing to receive, or no room to send.
fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(None),
        Err(error) => Err(error),
    }
}
