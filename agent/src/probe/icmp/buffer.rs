//! A socket's receive buffer: raised as far as this process may, and how many answers it then holds.

use socket2::{Domain, Socket, Type};

/// What one waiting answer takes, with the kernel's own bookkeeping: 212,992 bytes hold 256 (measured).
const ANSWER_BYTES: usize = 832;
/// The buffer that is asked for; the kernel doubles it, which makes 20,000 answers.
const BUFFER_BYTES: usize = 8 << 20;

/// Makes a buffer as large as this process may. Best effort: [`answers`] tells what came of it.
pub(super) fn raise(socket: &Socket) {
    // With CAP_NET_ADMIN it goes beyond net.core.rmem_max; without, that fails and changes nothing.
    #[cfg(target_os = "linux")]
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, BUFFER_BYTES).is_ok() {
        return;
    }
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
}

/// How many answers a buffer holds, found out on a socket that sends nothing.
pub(super) fn answers() -> usize {
    let Ok(socket) = Socket::new(Domain::IPV4, Type::DGRAM, None) else { return 0 };
    raise(&socket);
    socket.recv_buffer_size().unwrap_or(0) / ANSWER_BYTES
}
