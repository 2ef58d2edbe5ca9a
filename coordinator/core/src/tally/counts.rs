//! What a tally is made of: counts by state, runs of hosts, and the shape of its grid.

use protocol::plan::Slots;
use protocol::probe::{Slot, State};
use std::ops::AddAssign;

/// The most rows and columns of ports of a grid.
pub const SIDE_MAX: u32 = 64;

/// Targets, or addresses, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; 6]);

/// The counts of a cell of a grid, by the code of the state: a cell has less than 2^32 targets.
pub type Cell = [u32; 6];

impl Counts {
    /// How many are in a state.
    #[must_use]
    pub const fn of(&self, state: State) -> u64 {
        self.0[state as usize]
    }

    /// Adds some that are in a state.
    pub const fn add(&mut self, state: State, count: u64) {
        self.0[state as usize] += count;
    }

    /// How many there are.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each as often.
    #[must_use]
    pub fn times(&self, count: u64) -> Self {
        Self(self.0.map(|of| of * count))
    }

    /// By the code of the state.
    #[must_use]
    pub const fn by_code(&self) -> &[u64; 6] {
        &self.0
    }

    /// What says most of an address that has these targets: the first state that is there of open, closed, up, not-probed, down (it is
    /// silent) and filtered (its ports are, and nobody asked for `ping`).
    #[must_use]
    pub fn says(&self) -> State {
        let order = [State::Open, State::Closed, State::Up, State::NotProbed, State::Down, State::Filtered];
        order.into_iter().find(|state| self.of(*state) > 0).unwrap_or(State::NotProbed)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (of, more) in self.0.iter_mut().zip(other.0) {
            *of = of.saturating_add(more);
        }
    }
}

impl From<[u64; 6]> for Counts {
    fn from(by_code: [u64; 6]) -> Self {
        Self(by_code)
    }
}

impl From<Cell> for Counts {
    fn from(by_code: Cell) -> Self {
        Self(by_code.map(u64::from))
    }
}

/// Hosts that stand together in address order and have equal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many, at least 1.
    pub hosts: u32,
    /// The targets of each.
    pub each: Counts,
}

/// How a cohort's hosts and ports are laid out in rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many hosts there are.
    pub hosts: u32,
    /// How many of them a row has, but for the last: a power of two.
    pub row_hosts: u32,
    /// Whether the first column is `ping`.
    pub ping: bool,
    /// The place, among the ports that are asked, of the first one.
    pub first_port: u32,
    /// How many ports there are.
    pub ports: u32,
    /// How many of them a column has, but for the last.
    pub column_ports: u32,
}

impl Shape {
    /// Of a tally's grid: at most 64 rows and 64 columns of ports, whatever is asked of however many hosts.
    #[must_use]
    pub fn of(hosts: u32, slots: &Slots) -> Self {
        let ports = slots.ports().len();
        Self {
            hosts,
            row_hosts: hosts.div_ceil(SIDE_MAX).next_power_of_two(),
            ping: slots.ping(),
            first_port: 0,
            ports,
            column_ports: ports.div_ceil(SIDE_MAX).max(1),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub const fn rows(&self) -> u32 {
        self.hosts.div_ceil(self.row_hosts)
    }

    /// How many columns there are, `ping` among them.
    #[must_use]
    pub const fn columns(&self) -> u32 {
        self.ping as u32 + self.ports.div_ceil(self.column_ports)
    }

    /// How many hosts a row has.
    #[must_use]
    pub fn hosts_in(&self, row: u32) -> u32 {
        self.row_hosts.min(self.hosts.saturating_sub(row * self.row_hosts))
    }

    /// How many slots a column has: 1 for `ping`.
    #[must_use]
    pub fn slots_in(&self, column: u32) -> u32 {
        match column.checked_sub(u32::from(self.ping)) {
            None => 1,
            Some(column) => self.column_ports.min(self.ports.saturating_sub(column * self.column_ports)),
        }
    }

    /// The column of a slot; `None` for one that it does not show.
    #[must_use]
    pub fn column_of(&self, slot: Slot, slots: &Slots) -> Option<u32> {
        match slot {
            Slot::Ping => self.ping.then_some(0),
            Slot::Tcp(port) => {
                let place = slots.ports().position(port)?.checked_sub(self.first_port)?;
                (place < self.ports).then(|| u32::from(self.ping) + place / self.column_ports)
            }
        }
    }
}
