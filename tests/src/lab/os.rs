//! What the lab needs of the operating system that the standard library does not offer: network
//! namespaces, a wait with a timeout that also tells what a process used, and a way to wake a
//! thread out of `accept`.
//!
//! With `simulated/socket.rs` the only modules of this package with `unsafe` in them. All of it is calls with plain integers or
//! with pointers to values that outlive the call.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::Duration;

/// A network namespace, held by a descriptor: it ends with the last holder.
#[derive(Debug)]
pub(super) struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes an empty namespace (its loopback is down). Needs CAP_SYS_ADMIN.
    pub(super) fn new() -> io::Result<Self> {
        // A namespace belongs to a thread: this one makes it, hands out a descriptor and ends.
        let file = on_thread(|| {
            // SAFETY: takes an integer; changes the calling thread only, which ends right after.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
            File::open("/proc/thread-self/ns/net")
        })?;
        Ok(Self { file })
    }

    /// Runs `action` on a thread inside the namespace. Sockets and processes that it makes stay
    /// there. A panic of `action` is passed on.
    pub(super) fn enter<T, F>(&self, action: F) -> io::Result<T>
    where
        T: Send,
        F: FnOnce() -> io::Result<T> + Send,
    {
        on_thread(|| {
            // SAFETY: the descriptor is open for as long as `self` is borrowed; changes the
            // calling thread only, which ends after `action`.
            check(unsafe { libc::setns(self.file.as_raw_fd(), libc::CLONE_NEWNET) })?;
            action()
        })
    }

    /// A path by which another process (`ip link ... netns PATH`) opens the namespace while this
    /// process holds it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// The calling thread is run before others (setpriority(2): on Linux a thread has a priority of its own). For what stands for a network,
/// which needs no processor: that this machine is busy is not to be part of its round trips.
pub(super) fn goes_before_others() -> io::Result<()> {
    const FIRST: libc::c_int = -20;
    // SAFETY: takes integers.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, FIRST) }).map(drop)
}

/// What a process used, as the kernel accounts for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user and kernel mode together.
    pub cpu: Duration,
    /// Largest resident set, in bytes. Never below that of the process that started it, since the
    /// kernel counts what it was before `exec` too.
    pub resident_bytes_max: u64,
}

/// How a wait ended.
#[derive(Debug)]
pub(super) enum Waited {
    /// The process ended, and was taken off the process table.
    Ended(ExitStatus, Usage),
    /// It still runs.
    TimedOut,
}

/// Waits for the end of `child`, at most `timeout` (rounded up to milliseconds); for ever without.
///
/// After `Waited::Ended` the process id may be somebody else's: nothing may be sent to it.
pub(super) fn wait(child: &Child, timeout: Option<Duration>) -> io::Result<Waited> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: takes integers, returns a new descriptor or an error.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let opened = check(libc::c_int::try_from(opened).map_err(io::Error::other)?)?;
    // SAFETY: the descriptor was just made and is owned by nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(opened) };

    let timeout_ms = match timeout {
        None => -1,
        Some(timeout) => libc::c_int::try_from(timeout.as_micros().div_ceil(1000)).map_err(io::Error::other)?,
    };
    loop {
        let mut entry = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: points to one entry, as the count says.
        match check(unsafe { libc::poll(&raw mut entry, 1, timeout_ms) }) {
            Ok(0) => return Ok(Waited::TimedOut),
            Ok(_) => return reap(pid),
            // A signal to the test process: the wait starts anew.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends `signal` to a child that was not reaped yet.
pub(super) fn signal(child: &Child, signal: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // SAFETY: takes integers; the caller holds the child unreaped, so the id is still its own.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// Ends `accept` calls on `listener`, now and later, with an error.
pub(super) fn end_accepting(listener: &TcpListener) {
    // SAFETY: takes integers; the descriptor is open for as long as the listener is borrowed.
    // The result says nothing: a listener that is shut down already is as good.
    unsafe { libc::shutdown(listener.as_raw_fd(), libc::SHUT_RDWR) };
}

fn reap(pid: libc::pid_t) -> io::Result<Waited> {
    let mut status: libc::c_int = 0;
    // SAFETY: all-zero is a valid value of this struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values on this stack.
    check(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) })?;
    let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
    let resident_kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    let usage = Usage { cpu, resident_bytes_max: resident_kib * 1024 };
    Ok(Waited::Ended(ExitStatus::from_raw(status), usage))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

fn on_thread<T: Send>(action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match scope.spawn(action).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
