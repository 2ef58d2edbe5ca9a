//! Where a map's counts come from: tallies that are kept, those of open cohorts that were counted lately, and what follows from the plan.

use crate::store::{Store, StoreError};
use crate::tally::{Counts, Packed, Part, Run, hosts_of};
use protocol::id::ScanId;
use protocol::plan::{Plan, cohort_hosts};
use protocol::probe::State;
use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

/// Counts of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Its targets by state.
    pub targets: Counts,
    /// Its addresses by what says most of them; empty where a map counts no addresses.
    pub addresses: Counts,
    /// How many targets, at most, lie in cohorts that are not counted yet.
    pub uncounted: u64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Self) {
        self.targets += other.targets;
        self.addresses += other.addresses;
        self.uncounted = self.uncounted.saturating_add(other.uncounted);
    }
}

impl Sum {
    /// What a cell is shown as: open, closed or up if anything in it is; else what most of it is. `None` for a cell of which nothing is
    /// counted. It goes by addresses where these are counted.
    #[must_use]
    pub fn says(&self) -> Option<State> {
        let counts = if self.addresses.sum() > 0 { &self.addresses } else { &self.targets };
        let telling = [State::Open, State::Closed, State::Up].into_iter().find(|state| counts.of(*state) > 0);
        let most = [State::NotProbed, State::Down, State::Filtered].into_iter().max_by_key(|state| counts.of(*state));
        telling.or(most).filter(|_| counts.sum() > 0)
    }
}

/// Tallies of cohorts that the store has none of: open ones, and such as were closed without.
pub type Counted = BTreeMap<u64, Packed>;

/// What a scan's maps are made of.
pub struct Source<'a> {
    store: &'a dyn Store,
    scan: ScanId,
    plan: &'a Plan,
    counted: &'a Counted,
    opened: u64,
    /// The vantages whose view is shown, by their place in the plan; the only one where the plan has none.
    views: Range<u64>,
}

/// What is known of a cohort.
pub(super) enum Known<'a> {
    /// A part of its tally.
    Part(&'a [u8]),
    /// It was never opened: all its targets are not probed.
    Untouched,
    /// It has no tally yet.
    Uncounted,
}

/// Takes a run's number and its hosts.
pub(super) type TellHosts<'a> = &'a mut dyn FnMut(u64, &[Stretch]) -> Result<(), StoreError>;

/// Hosts that stand together and have the same to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) hosts: u64,
    /// Of each.
    pub(super) each: Sum,
}

impl<'a> Source<'a> {
    /// Of a scan, all vantages together, or one of them by its place in the plan.
    ///
    /// # Errors
    /// If the store fails or has no such scan.
    pub fn new(
        (store, scan, plan): (&'a dyn Store, ScanId, &'a Plan),
        counted: &'a Counted,
        vantage: Option<u64>,
    ) -> Result<Self, StoreError> {
        let (_, opened) = store.cohorts(scan)?;
        let views = vantage.map_or(0..plan.views(), |view| view..view.saturating_add(1).min(plan.views()));
        Ok(Self { store, scan, plan, counted, opened, views })
    }

    pub(super) fn plan(&self) -> &'a Plan {
        self.plan
    }

    pub(super) fn store(&self) -> (&'a dyn Store, ScanId) {
        (self.store, self.scan)
    }

    pub(super) fn views(&self) -> Range<u64> {
        self.views.clone()
    }

    /// How many targets an address has, at most.
    pub(super) fn slots(&self) -> u64 {
        u64::from(self.plan.slots().len())
    }

    /// How many addresses every cohort has but the last.
    pub(super) fn cohort_hosts(&self) -> u64 {
        cohort_hosts(self.plan.addresses().len())
    }

    /// The ranks of the addresses of a run: of the cohorts that are the same for every vantage.
    pub(super) fn ranks_of(&self, run: u64) -> Range<u64> {
        let hosts = self.cohort_hosts();
        let end = self.plan.addresses().len();
        (run * hosts).min(end)..run.saturating_add(1).saturating_mul(hosts).min(end)
    }

    /// Tells of each cohort of these runs, seen from one vantage, what is known, by number.
    pub(super) fn each(
        &self,
        view: u64,
        runs: Range<u64>,
        part: Part,
        tell: &mut dyn FnMut(u64, Known<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let first = view * self.plan.cohorts_of_one();
        let mut next = runs.start;
        self.store.tallies(self.scan, first + runs.start..first + runs.end, part, &mut |number, bytes| {
            let run = number - first;
            (next..run).try_for_each(|run| tell(run, self.unkept(first + run, part)))?;
            next = run + 1;
            tell(run, Known::Part(bytes))
        })?;
        (next..runs.end).try_for_each(|run| tell(run, self.unkept(first + run, part)))
    }

    /// What is known of a cohort of which the store has no tally.
    fn unkept(&self, number: u64, part: Part) -> Known<'_> {
        match self.counted.get(&number) {
            Some(tally) => Known::Part(tally.part(part)),
            None if self.plan.position_of(number).is_some_and(|position| position < self.opened) => Known::Uncounted,
            None => Known::Untouched,
        }
    }

    /// Tells of the hosts of each of these runs, in address order: what all vantages say, together. From one vantage they are read as one.
    pub(super) fn hosts(&self, runs: Range<u64>, tell: TellHosts<'_>) -> Result<(), StoreError> {
        let views = self.views();
        if views.end - views.start == 1 {
            return self
                .each(views.start, runs, Part::Hosts, &mut |run, known| tell(run, &self.stretches(run, known)?));
        }
        for run in runs {
            let mut joined: Option<Vec<Stretch>> = None;
            for view in self.views() {
                self.each(view, run..run + 1, Part::Hosts, &mut |run, known| {
                    let seen = self.stretches(run, known)?;
                    joined = Some(joined.take().map_or_else(|| seen.clone(), |before| join(&before, &seen)));
                    Ok(())
                })?;
            }
            tell(run, &joined.unwrap_or_default())?;
        }
        Ok(())
    }

    /// What one vantage says of the hosts of a run.
    fn stretches(&self, run: u64, known: Known<'_>) -> Result<Vec<Stretch>, StoreError> {
        let ranks = self.ranks_of(run);
        let hosts = ranks.end - ranks.start;
        Ok(match known {
            Known::Part(bytes) => {
                hosts_of(bytes, u32::try_from(hosts).unwrap_or(u32::MAX))?.into_iter().map(stretch).collect()
            }
            Known::Untouched => vec![Stretch { hosts, each: self.untouched(1) }],
            Known::Uncounted => vec![Stretch { hosts, each: self.uncounted(1) }],
        })
    }

    /// Of addresses that were never asked, from one vantage.
    pub(super) fn untouched(&self, hosts: u64) -> Sum {
        let mut sum = Sum::default();
        sum.targets.add(State::NotProbed, hosts * self.slots());
        sum.addresses.add(State::NotProbed, hosts);
        sum
    }

    /// Of addresses whose cohort is not counted yet, from one vantage.
    pub(super) fn uncounted(&self, hosts: u64) -> Sum {
        Sum { uncounted: hosts * self.slots(), ..Sum::default() }
    }
}

fn stretch(run: Run) -> Stretch {
    let mut addresses = Counts::default();
    addresses.add(run.each.says(), 1);
    Stretch { hosts: run.hosts.into(), each: Sum { targets: run.each, addresses, uncounted: 0 } }
}

/// What two vantages say of the same hosts.
fn join(left: &[Stretch], right: &[Stretch]) -> Vec<Stretch> {
    let (mut left, mut right) = (left.iter().copied(), right.iter().copied());
    let (mut a, mut b) = (left.next(), right.next());
    let mut joined = Vec::new();
    while let (Some(of_a), Some(of_b)) = (&mut a, &mut b) {
        let hosts = of_a.hosts.min(of_b.hosts);
        joined.push(Stretch { hosts, each: says_more(of_a.each, of_b.each) });
        of_a.hosts -= hosts;
        of_b.hosts -= hosts;
        if of_a.hosts == 0 {
            a = left.next();
        }
        if of_b.hosts == 0 {
            b = right.next();
        }
    }
    joined
}

/// Both vantages' targets; of the address what says more: what was found goes before what was not.
fn says_more(left: Sum, right: Sum) -> Sum {
    let order = [State::Open, State::Closed, State::Up, State::Down, State::Filtered, State::NotProbed];
    let either = |state: &State| left.addresses.of(*state) + right.addresses.of(*state) > 0;
    let mut addresses = Counts::default();
    if let Some(state) = order.into_iter().find(either) {
        addresses.add(state, 1);
    }
    let mut sum = left;
    sum += right;
    Sum { addresses, ..sum }
}

impl Stretch {
    /// Of some of its hosts.
    pub(super) fn of(&self, hosts: u64) -> Sum {
        Sum {
            targets: self.each.targets.times(hosts),
            addresses: self.each.addresses.times(hosts),
            uncounted: self.each.uncounted * hosts,
        }
    }
}
