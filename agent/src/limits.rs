//! What this process may hold open, how many probes in flight that allows, and what is told when this machine lacks something.

use std::io;
use std::sync::Once;

/// How many descriptors are kept for what is no probe: files, the link, the store, the runtime.
pub const DESCRIPTORS_KEPT: u64 = 64;

/// The most probes in flight by default: more gains nothing at the speeds that one core reaches.
pub const WINDOW_MAX: u32 = 16_384;

/// A window up to this takes all descriptors, if need be.
const WINDOW_ALONE: u64 = 8_192;

/// How many descriptors one asks for at most. Where the hard limit is "a billion", a table of that size helps nobody.
const DESCRIPTORS_WANTED: u64 = 1 << 20;

/// With less than so many a scan is told of it: the window is an eighth of the largest, or less.
const DESCRIPTORS_FEW: u64 = 1_024;

/// Why the limit of descriptors could not be raised.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The limit could not be read.
    #[error("read how many files may be open")]
    Read(#[source] io::Error),
    /// The soft limit could not be raised to the hard one.
    #[error("raise the number of open files from {soft} to {wanted}")]
    Raise {
        /// The soft limit, which stays.
        soft: u64,
        /// What was asked for.
        wanted: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The number of descriptors that this process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors(u64);

impl Descriptors {
    /// The present limit, unchanged.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read() -> Result<Self, LimitError> {
        let (soft, _) = rlimit::Resource::NOFILE.get().map_err(LimitError::Read)?;
        Ok(Self(soft))
    }

    /// Raises the soft limit to the hard one (at most 1,048,576), and says what holds now. It never lowers.
    ///
    /// # Errors
    /// If the limit cannot be read or raised. The old one then holds; [`read`](Self::read) tells it.
    pub fn raise() -> Result<Self, LimitError> {
        let (soft, hard) = rlimit::Resource::NOFILE.get().map_err(LimitError::Read)?;
        let wanted = hard.min(DESCRIPTORS_WANTED);
        if soft >= wanted {
            return Ok(Self(soft));
        }
        rlimit::Resource::NOFILE.set(wanted, hard).map_err(|source| LimitError::Raise { soft, wanted, source })?;
        Ok(Self(wanted))
    }

    /// A limit that is known otherwise.
    #[must_use]
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// How many descriptors.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0
    }

    /// True if a scan is much slower for it.
    #[must_use]
    pub const fn are_few(self) -> bool {
        self.0 < DESCRIPTORS_FEW
    }

    /// How many probes may be in flight by default: min(descriptors − 64, 8,192), or two thirds of them where that is more, up to 16,384:
    /// the faster a scan is, the more has to be listened for. Where there are fewer than 86, a quarter of them and at least one: what then
    /// lacks a descriptor waits for one.
    #[must_use]
    pub fn default_window(self) -> u32 {
        let free = self.0.saturating_sub(DESCRIPTORS_KEPT).max(self.0 / 4).max(1);
        let window = free.min(WINDOW_ALONE).max(free / 3 * 2);
        u32::try_from(window).unwrap_or(WINDOW_MAX).min(WINDOW_MAX)
    }

    /// Has the kernel make room for the descriptors of so many probes and what else there is, as far as there may be so many. Else the
    /// table grows by doubling, and each time a process that has several threads waits for all processors (`expand_fdtable` in fs/file.c
    /// calls `synchronize_rcu`), some 10 ms: a tenth of a second until all sockets are open. Nothing is lost where it cannot be done.
    pub fn make_room(self, probes: u32) {
        let wanted = self.0.min(u64::from(probes) + DESCRIPTORS_KEPT);
        let Some(last) = wanted.checked_sub(1).and_then(|last| i32::try_from(last).ok()) else { return };
        if let Ok(any) = std::fs::File::open("/") {
            // The table has to hold what is numbered so, which is closed at once.
            let _numbered_last = rustix::io::fcntl_dupfd_cloexec(&any, last);
        }
    }

    /// How many sockets there may be beyond a window's, to listen for late answers: what is left, at most as many again.
    #[must_use]
    pub fn listening(self, window: u32) -> u32 {
        let left = self.0.saturating_sub(DESCRIPTORS_KEPT).saturating_sub(u64::from(window));
        u32::try_from(left).unwrap_or(WINDOW_MAX).min(WINDOW_MAX)
    }
}

/// What this machine may lack while it probes. Nothing of it is taken for a state; all of it makes a scan slower, or lets it see less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Descriptors (EMFILE, ENFILE): probes wait for one.
    Descriptors,
    /// Ports to connect from (EADDRNOTAVAIL): probes wait for one.
    LocalPorts,
    /// Room to send (ENOBUFS, ENOMEM): probes wait for it.
    SendBuffers,
    /// Room for answers: those that came meanwhile are lost.
    ReceiveBuffer,
    /// Room in the kernel's table of connections: what is sent or answered meanwhile is lost.
    Conntrack,
}

impl Lack {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Descriptors, Self::LocalPorts, Self::SendBuffers, Self::ReceiveBuffer, Self::Conntrack];

    /// Tells of it in one line, a warning, with what mends it: once a process, however often it is met.
    pub fn tell(self) {
        // Not state: nothing is decided by it.
        static TOLD: [Once; Lack::ALL.len()] = [const { Once::new() }; Lack::ALL.len()];
        TOLD[self as usize].call_once(|| tracing::warn!("{}; `{}` mends it", self.said(), self.mend()));
    }

    /// True if this machine keeps a table of connections and it is full, or nearly: the kernel then throws out entries of probes that
    /// wait for their answers, or drops what is sent.
    #[must_use]
    pub fn conntrack_is_full() -> bool {
        let read = |name: &str| {
            let text = std::fs::read_to_string(std::path::Path::new("/proc/sys/net/netfilter").join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        match (read("nf_conntrack_count"), read("nf_conntrack_max")) {
            (Some(count), Some(max)) => is_nearly(count, max),
            _ => false,
        }
    }

    /// What is so, and what it does to the scan.
    #[must_use]
    pub const fn said(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "this machine permits few open files, so few probes are in flight and some wait for one"
            }
            Self::LocalPorts => "this machine ran out of local ports, so probes wait for one",
            Self::SendBuffers => "this machine had no buffers to send from, so probes wait for some",
            Self::ReceiveBuffer => "answers to pings were lost here, as the receive buffer was full",
            Self::Conntrack => "the table of connections of this machine is full, so it drops probes and answers",
        }
    }

    /// The line that mends it.
    #[must_use]
    pub const fn mend(self) -> &'static str {
        match self {
            Self::Descriptors => "ulimit -Hn 32768",
            Self::LocalPorts => "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"",
            Self::SendBuffers => "ip link set dev INTERFACE txqueuelen 10000",
            Self::ReceiveBuffer => "sysctl -w net.core.rmem_max=16777216",
            Self::Conntrack => "sysctl -w net.netfilter.nf_conntrack_max=262144",
        }
    }
}

/// Within a fiftieth. No bound at all is written as 0.
fn is_nearly(count: u64, max: u64) -> bool {
    max > 0 && count >= max - max / 50
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel tells the size of the table (FDSize in proc_pid_status(5)); other tests of this process may make it larger only.
    #[test]
    #[cfg(target_os = "linux")]
    fn room_is_made_for_what_there_may_be_and_no_more_is_open() {
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let size = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
            size.trim().parse::<u64>().unwrap()
        };
        let most = Descriptors::raise().unwrap();
        let (opened, wanted) = (open(), most.count().min(3_000));
        most.make_room((wanted - DESCRIPTORS_KEPT) as u32);
        assert!(size() >= wanted, "{} < {wanted}", size());
        assert!(open() < opened + 1_000, "{} are open, {opened} were", open());
        Descriptors::new(0).make_room(u32::MAX);
    }

    #[test]
    fn every_lack_is_told_in_one_line_with_what_mends_it() {
        for lack in Lack::ALL {
            assert!(lack.said().len() < 100 && !lack.said().contains('\n') && !lack.mend().is_empty(), "{lack:?}");
        }
        assert!(is_nearly(100, 100) && is_nearly(98, 100) && !is_nearly(97, 100));
        assert!(!is_nearly(0, 0), "a table without a bound");
    }

    #[test]
    fn the_window_follows_the_descriptors_and_is_never_empty() {
        for (descriptors, window) in [
            (0, 1),
            (3, 1),
            (64, 16),
            (86, 22),
            (256, 192),
            (1_024, 960),
            (8_256, 8_192),
            (10_000, 8_192),
            (20_000, 13_290),
            (u64::MAX, 16_384),
        ] {
            assert_eq!(Descriptors::new(descriptors).default_window(), window, "{descriptors} descriptors");
        }
    }

    #[test]
    fn who_listens_takes_what_is_left() {
        for (descriptors, window, listening) in [
            (0, 1, 0),
            (64, 16, 0),
            (1_024, 960, 0),
            (1_024, 100, 860),
            (20_000, 8_192, 11_744),
            (40_000, 8_192, 16_384),
            (10_000, 8_192, 1_744),
        ] {
            assert_eq!(Descriptors::new(descriptors).listening(window), listening, "{descriptors} and {window}");
        }
    }

    #[test]
    fn raising_never_lowers_and_ends_at_the_hard_limit() {
        let before = Descriptors::read().unwrap();
        let raised = Descriptors::raise().unwrap();
        assert!(raised.count() >= before.count());
        assert_eq!(Descriptors::read().unwrap(), raised);
        assert_eq!(Descriptors::raise().unwrap(), raised, "a second time changes nothing");
    }
}
