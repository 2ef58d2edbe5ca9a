//! How a scan went since this process began: how fast, by whom, and what was found last. For people who look on; in bounded memory.

use crate::api::shape::Finding;
use protocol::time::Time;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many points a curve of the rate has at most. When there are more, every two become one, which covers twice the time.
const POINTS_MAX: usize = 240;
/// How much time a point covers at first.
const POINT_AT_FIRST: Duration = Duration::from_secs(1);
/// A current rate is the mean over so long: an agent reports every half a second to a second.
const CURRENT: Duration = Duration::from_secs(10);
/// The rest of a scan is reckoned from the mean over so long, so that the time said does not jump.
const STEADY: Duration = Duration::from_secs(30);
/// How many findings are kept to be shown at once, newest last.
const RECENT_MAX: usize = 20;
/// How many agents are told apart; what others do is in the scan's own rate.
const AGENTS_MAX: usize = 256;

/// How many targets were settled in which second, over the last half a minute.
#[derive(Clone, Debug, Default)]
struct Recently(VecDeque<(u64, u64)>);

impl Recently {
    fn add(&mut self, now: Time, settled: u64) {
        let second = now.since(Time::default()).as_secs();
        match self.0.back_mut() {
            Some((last, count)) if *last == second => *count += settled,
            _ => self.0.push_back((second, settled)),
        }
        while self.0.front().is_some_and(|(first, _)| first + STEADY.as_secs() < second) {
            self.0.pop_front();
        }
    }

    /// The mean over the last `span`, or since `begun` if that is later, in targets per second.
    fn rate_per_s(&self, now: Time, span: Duration, begun: Time) -> f64 {
        let second = now.since(Time::default()).as_secs();
        let first = second.saturating_sub(span.as_secs());
        let settled: u64 = self.0.iter().filter(|(at, _)| *at > first).map(|(_, count)| count).sum();
        let span = now.since(begun).as_secs_f64().clamp(1.0, span.as_secs_f64());
        settled as f64 / span
    }
}

/// One agent's part.
#[derive(Clone, Debug, Default)]
struct Part {
    settled: u64,
    recently: Recently,
}

/// What an agent did for a scan since this process began.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// Its name.
    pub agent: String,
    /// How many targets it settled.
    pub settled: u64,
    /// How many it settles now, per second.
    pub rate_per_s: f64,
}

/// How a scan went.
#[derive(Clone, Debug)]
pub struct History {
    begun: Time,
    /// How many targets were settled in each run of `each`, from `begun`.
    points: Vec<u64>,
    each: Duration,
    recently: Recently,
    agents: BTreeMap<String, Part>,
    recent: VecDeque<Finding>,
    /// How many probes may be in flight, as an agent said last.
    pub window: u32,
}

impl History {
    /// Of a scan that is followed from now on.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            begun: now,
            points: Vec::new(),
            each: POINT_AT_FIRST,
            recently: Recently::default(),
            agents: BTreeMap::new(),
            recent: VecDeque::new(),
            window: 0,
        }
    }

    /// A report was taken that settled so many targets more.
    pub fn add(&mut self, now: Time, agent: Option<&str>, settled: u64, findings: &[Finding]) {
        let point = |each: Duration| (now.since(self.begun).as_micros() / each.as_micros()) as usize;
        while point(self.each) >= POINTS_MAX {
            self.points = self.points.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.each *= 2;
        }
        let point = point(self.each);
        if self.points.len() <= point {
            self.points.resize(point + 1, 0);
        }
        self.points[point] += settled;
        self.recently.add(now, settled);
        if let Some(name) = agent
            && (self.agents.len() < AGENTS_MAX || self.agents.contains_key(name))
        {
            let part = self.agents.entry(name.to_owned()).or_default();
            part.settled += settled;
            part.recently.add(now, settled);
        }
        self.recent.extend(findings.iter().filter(|finding| !finding.sign).cloned());
        self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
    }

    /// Targets settled per second now.
    #[must_use]
    pub fn rate_per_s(&self, now: Time) -> f64 {
        self.recently.rate_per_s(now, CURRENT, self.begun)
    }

    /// How long `rest` targets take at the pace of the last half a minute; `None` where nothing moves.
    #[must_use]
    pub fn remaining(&self, now: Time, rest: u64) -> Option<Duration> {
        let rate = self.recently.rate_per_s(now, STEADY, self.begun);
        if rate < 0.01 {
            return None;
        }
        Duration::try_from_secs_f64(rest as f64 / rate).ok()
    }

    /// The curve of the rate: how long each point lasts, and targets per second in each. The last point, which is not over, is left out.
    #[must_use]
    pub fn curve(&self, now: Time) -> (Duration, Vec<f64>) {
        let over = (now.since(self.begun).as_micros() / self.each.as_micros()) as usize;
        let points = (0..over.min(POINTS_MAX)).map(|point| self.points.get(point).copied().unwrap_or(0));
        (self.each, points.map(|settled| settled as f64 / self.each.as_secs_f64()).collect())
    }

    /// Who did how much, by name.
    pub fn throughput(&self, now: Time) -> impl Iterator<Item = Throughput> + '_ {
        self.agents.iter().map(move |(name, part)| Throughput {
            agent: name.clone(),
            settled: part.settled,
            rate_per_s: part.recently.rate_per_s(now, CURRENT, self.begun),
        })
    }

    /// What was found last, newest first.
    pub fn recent(&self) -> impl Iterator<Item = &Finding> {
        self.recent.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_curve_keeps_its_sum_however_long_it_gets() {
        let mut history = History::new(at(0));
        for second in 0..2_000 {
            history.add(at(second), Some("a"), 100, &[]);
        }
        let (each, points) = history.curve(at(2_000));
        assert!(points.len() <= POINTS_MAX && points.len() >= POINTS_MAX / 2, "{}", points.len());
        assert!(points.iter().all(|rate| (rate - 100.0).abs() < 1e-9), "{points:?}");
        assert_eq!(each, Duration::from_secs(16));
        assert!((history.rate_per_s(at(1_999)) - 100.0).abs() < 1e-9);
        assert_eq!(history.remaining(at(1_999), 5_000), Some(Duration::from_secs(50)));
    }

    #[test]
    fn what_stands_still_has_no_rate_and_promises_nothing() {
        let mut history = History::new(at(0));
        history.add(at(1), Some("a"), 100, &[]);
        assert_eq!(history.remaining(at(60), 10), None);
        assert_eq!(history.throughput(at(60)).map(|it| (it.settled, it.rate_per_s)).collect::<Vec<_>>(), [(100, 0.0)]);
    }

    #[test]
    fn agents_are_told_apart() {
        let mut history = History::new(at(0));
        for second in 1..=10 {
            history.add(at(second), Some("a"), 10, &[]);
            history.add(at(second), Some("b"), 30, &[]);
            history.add(at(second), None, 5, &[]);
        }
        let rates: Vec<_> = history.throughput(at(10)).map(|it| (it.agent, it.rate_per_s)).collect();
        assert_eq!(rates, [("a".to_owned(), 10.0), ("b".to_owned(), 30.0)]);
        assert!((history.rate_per_s(at(10)) - 45.0).abs() < 1e-9);
    }
}
