//! What may be probed: the agent's own allow-list, and the one function that admits a probe to the network.
//!
//! Every prober's send takes an [`Admitted`], which only [`Admission::admit`] makes, just before the send and for that one
//! send. A send is admitted if all hold; the first that does not is the cause:
//! 1. the address is in the [`Scope`];
//! 2. it is in no exclusion, be it one that stands here or one that was added while the scan runs;
//! 3. the probe's right has not ended;
//! 4. the owner lets probes go ([`Orders`]).
//!
//! An address has one spelling here: an IPv4-mapped IPv6 address is the IPv4 address.

use crate::clock::Clock;
use agent_core::orders::ScanOrders;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use protocol::address::AddressClass;
use protocol::id::ScanId;
use protocol::message::Run;
use protocol::probe::{Cause, Outcome};
use protocol::range_set::AddressSet;
use protocol::time::Time;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What an agent may probe. Fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    allow: AddressSet,
    /// What whoever runs this agent excludes all the same: targets of such an address end as excluded, not as out of scope.
    except: AddressSet,
}

impl Scope {
    /// Nothing: what an agent has that was told nothing.
    #[must_use]
    pub fn nothing() -> Self {
        Self { allow: AddressSet::new(), except: AddressSet::new() }
    }

    /// The scope of a scan from here: exactly what was typed, loopback and all. Unspecified addresses are left out: a connect
    /// to one reaches this machine, which nobody typed.
    #[must_use]
    pub fn typed(targets: AddressSet) -> Self {
        let mut allow = targets;
        allow.subtract(&unspecified());
        Self { allow, except: AddressSet::new() }
    }

    /// The scope of an agent that others aim: the entries of its allow-list. Loopback, link-local, multicast and the
    /// `coordinator`'s addresses open only by an entry that lies wholly inside that class, never by a wider one.
    #[must_use]
    pub fn listed(entries: impl IntoIterator<Item = IpNet>, coordinator: &[IpAddr]) -> Self {
        let classes = guarded(coordinator);
        let mut allow = AddressSet::new();
        for entry in entries {
            let mut entry = AddressSet::from(entry);
            if !classes.iter().any(|class| entry.is_subset(class)) {
                for class in &classes {
                    entry.subtract(class);
                }
            }
            allow.extend(&entry);
        }
        allow.subtract(&unspecified());
        Self { allow, except: AddressSet::new() }
    }

    /// Without the addresses of `except`: an exclusion that stands here and that who made the plan did not know.
    #[must_use]
    pub fn except(self, except: AddressSet) -> Self {
        Self { except, ..self }
    }

    /// True if the address may be probed, as far as the allow-list says.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.contains(address)
    }

    /// Every address that may be probed: what hello tells.
    #[must_use]
    pub fn allowed(&self) -> &AddressSet {
        &self.allow
    }
}

/// `0.0.0.0/8` and `::`: a connect to them reaches this machine, so they would open loopback by another name. And the former as a
/// translator spells them.
fn unspecified() -> AddressSet {
    let mut set = AddressSet::from(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)));
    set.insert(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    set.insert_net(IpNet::V6(Ipv6Net::new_assert(translated(Ipv4Addr::UNSPECIFIED), 104)));
    set
}

/// The classes that no wider entry opens: loopback, link-local, multicast, and each of `coordinator`; those of IPv4 also as a translator
/// spells them.
fn guarded(coordinator: &[IpAddr]) -> Vec<AddressSet> {
    let classes = [AddressClass::Loopback, AddressClass::LinkLocal, AddressClass::Multicast];
    let mut classes: Vec<_> = classes.map(|class| class.addresses().clone()).into();
    classes.extend(coordinator.iter().map(|&address| {
        let mut set = AddressSet::from(address);
        if let IpAddr::V4(v4) = address.to_canonical() {
            set.insert(IpAddr::V6(translated(v4)));
        }
        set
    }));
    classes
}

/// An IPv4 address behind NAT64's well-known prefix (RFC 6052): a translator in the way may take the one for the other.
fn translated(v4: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = v4.octets();
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// What the owner of a prober orders while probes run: sent whole, newest wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Orders {
    /// Whether probes may be sent at all.
    pub run: Run,
    /// What is excluded for all scans.
    pub exclude: AddressSet,
    /// What holds for each scan beside that. Of one that is not here nothing was ordered.
    pub scans: BTreeMap<ScanId, ScanOrders>,
}

impl Default for Orders {
    /// Go, and nothing excluded.
    fn default() -> Self {
        Self::of_scans(BTreeMap::new())
    }
}

impl Orders {
    /// Go, but for what holds for each scan.
    #[must_use]
    pub fn of_scans(scans: BTreeMap<ScanId, ScanOrders>) -> Self {
        Self { run: Run::Go, exclude: AddressSet::new(), scans }
    }
}

/// Why a probe is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent's allow-list does not hold the address.
    #[error("the address is not in this agent's allow-list")]
    OutOfScope,
    /// It was excluded while the scan ran.
    #[error("the address is excluded")]
    Excluded,
    /// The right to probe has ended.
    #[error("the right to probe has ended")]
    RightEnded,
    /// The scan is paused or stopped.
    #[error("the scan is paused or stopped")]
    Halted,
}

impl Refusal {
    /// What the probe's target ends as.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        Outcome::not_probed(match self {
            Self::OutOfScope => Cause::OutOfScope,
            Self::Excluded => Cause::Excluded,
            Self::RightEnded | Self::Halted => Cause::Interrupted,
        })
    }
}

/// The proof that one send to one address was admitted. It cannot be made elsewhere, copied or kept for a second send.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    address: IpAddr,
}

impl Admitted {
    /// The address that may be sent to, never IPv4-mapped.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }
}

/// The one gate to the network. It belongs to one supervisor and its probers, on one thread; the owner's orders reach it as
/// messages, so that nothing is shared between actors but what never changes.
#[derive(Debug)]
pub struct Admission {
    clock: Clock,
    scope: Arc<Scope>,
    orders: RefCell<Arc<Orders>>,
}

impl Admission {
    /// A gate to what `scope` allows, with rights counted on `clock`, and no order yet but "go".
    #[must_use]
    pub fn new(clock: Clock, scope: Arc<Scope>) -> Self {
        Self { clock, scope, orders: RefCell::new(Arc::default()) }
    }

    /// The same gate as it is now, for another thread: orders must reach both.
    #[must_use]
    pub fn for_another_thread(&self) -> Self {
        let orders = RefCell::new(Arc::clone(&self.orders.borrow()));
        Self { clock: self.clock, scope: Arc::clone(&self.scope), orders }
    }

    /// The clock that rights are counted on.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Puts new orders in force: they hold for every send after this call.
    pub fn set_orders(&self, orders: Arc<Orders>) {
        *self.orders.borrow_mut() = orders;
    }

    /// Stops: admits nothing any more, and keeps the exclusions, so that causes stay true.
    pub fn stop(&self) {
        let orders = Orders::clone(&self.orders.borrow());
        self.set_orders(Arc::new(Orders { run: Run::Stop, ..orders }));
    }

    /// Admits one send of a scan, now, to `address`.
    ///
    /// # Errors
    /// If it may not be sent. That is a value like any other, not a fault.
    pub fn admit(&self, scan: ScanId, address: IpAddr, right_ends_at: Time) -> Result<Admitted, Refusal> {
        decide(&self.scope, &self.orders.borrow(), self.clock.now(), scan, address, right_ends_at)
    }
}

fn decide(
    scope: &Scope,
    orders: &Orders,
    now: Time,
    scan: ScanId,
    address: IpAddr,
    right_ends_at: Time,
) -> Result<Admitted, Refusal> {
    let address = address.to_canonical();
    // The causes that say something of the address come first: they hold whatever becomes of the scan.
    if !scope.allows(address) {
        return Err(Refusal::OutOfScope);
    }
    let of_scan = orders.scans.get(&scan);
    let excluded = of_scan.is_some_and(|of_scan| of_scan.exclude.contains(address));
    if excluded || scope.except.contains(address) || orders.exclude.contains(address) {
        return Err(Refusal::Excluded);
    }
    if now >= right_ends_at {
        return Err(Refusal::RightEnded);
    }
    if orders.run != Run::Go || of_scan.is_some_and(|of_scan| of_scan.run != Run::Go) {
        return Err(Refusal::Halted);
    }
    Ok(Admitted { address })
}

#[cfg(test)]
mod tests;
