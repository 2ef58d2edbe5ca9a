//! What a person tells a scan while it runs: Ctrl-C or a polite kill, and the wish to know how far it is (SIGUSR1, Enter).

use rustix::process::getpgrp;
use rustix::termios::{isatty, tcgetpgrp};
use std::io::{self, IsTerminal, Read, Stdin};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The scan is to stop.
    Interrupt,
    /// The process is to stop, whatever becomes of the scan: it was told to before.
    End,
    /// Somebody wants to know how far it is.
    Status,
}

/// Listens to signals and, on a terminal, to the Enter key.
pub(super) struct Ears {
    interrupt: Signal,
    terminate: Signal,
    status: Signal,
    enter: Option<Enter>,
    interrupted: bool,
}

impl Ears {
    /// From now on signals no longer end the process. With `keys`, Enter is heard where standard input and stderr are a terminal.
    pub(super) fn new(keys: bool) -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            status: signal(SignalKind::user_defined1())?,
            enter: keys.then(Enter::new).flatten(),
            interrupted: false,
        })
    }

    /// Waits for the next. Safe to cancel.
    pub(super) async fn next(&mut self) -> Wish {
        let entered = async {
            match &mut self.enter {
                Some(enter) => enter.pressed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.status.recv() => return Wish::Status,
            pressed = entered => {
                if !pressed {
                    self.enter = None;
                }
                return Wish::Status;
            }
        }
        if std::mem::replace(&mut self.interrupted, true) { Wish::End } else { Wish::Interrupt }
    }

    /// Waits for the wish to end the process: a second interrupt, or the first once there is nothing left to interrupt.
    pub(super) async fn end(&mut self) {
        while self.next().await == Wish::Status {}
    }
}

/// The Enter key of the terminal that standard input is.
struct Enter(AsyncFd<Stdin>);

impl Enter {
    fn new() -> Option<Self> {
        let stdin = io::stdin();
        let terminal = stdin.is_terminal() && io::stderr().is_terminal() && isatty(&stdin);
        if !terminal {
            return None;
        }
        // SAFETY: standard input's descriptor stays open as long as the process, and nobody else watches it.
        let watched = unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) };
        // What cannot be watched is not watched: the signal is there too.
        watched.ok().map(Self)
    }

    /// Waits for a line; false where there will be none any more.
    async fn pressed(&mut self) -> bool {
        loop {
            let Ok(mut ready) = self.0.readable_mut().await else { return false };
            ready.clear_ready();
            let stdin = ready.get_inner_mut();
            // In the background the line is the shell's, and reading it would stop this process (SIGTTIN).
            if tcgetpgrp(&*stdin).is_ok_and(|foreground| foreground == getpgrp()) {
                // A terminal gives a line at a time, and there is one.
                let mut line = [0; 1024];
                return stdin.read(&mut line).is_ok_and(|count| count > 0);
            }
        }
    }
}
