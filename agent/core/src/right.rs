//! Until when this instance may probe at all.
//!
//! The end is (when it **sent** the last claim or renewal that was answered) + ttl, so however long the request and the answer
//! were on their way, this side ends first (Gray and Cheriton, "Leases", SOSP 1989, section 2).

use protocol::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// More unanswered requests than this in one session do not happen: a session is given up before.
const UNANSWERED_MAX: usize = 64;

/// The right of this instance, and the requests that may lengthen it.
#[derive(Debug, Default)]
pub struct Right {
    ends_at: Option<Time>,
    ttl: Duration,
    last_number: u64,
    sent: VecDeque<(u64, Time)>,
}

impl Right {
    /// A session began: its numbers start anew, and answers of the one before can no longer come.
    pub fn session_began(&mut self, ttl: Duration) {
        self.ttl = ttl;
        self.last_number = 0;
        self.sent.clear();
    }

    /// A claim or renewal is sent now: its number.
    pub fn sent(&mut self, now: Time) -> u64 {
        self.last_number += 1;
        if self.sent.len() == UNANSWERED_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last_number, now));
        self.last_number
    }

    /// When a request was sent that is not answered yet.
    #[must_use]
    pub fn sent_at(&self, number: u64) -> Option<Time> {
        self.sent.iter().find(|(sent, _)| *sent == number).map(|(_, at)| *at)
    }

    /// A request was answered: the right lasts `ttl` from when it was sent. An unknown number changes nothing.
    pub fn answered(&mut self, number: u64) {
        while let Some(&(oldest, sent_at)) = self.sent.front() {
            if oldest > number {
                return;
            }
            self.sent.pop_front();
            if oldest == number {
                self.ends_at = self.ends_at.max(Some(sent_at + self.ttl));
            }
        }
    }

    /// True while it may probe.
    #[must_use]
    pub fn lasts(&self, now: Time) -> bool {
        self.ends_at.is_some_and(|ends_at| now < ends_at)
    }

    /// When it ends; `None` if there is none.
    #[must_use]
    pub fn ends_at(&self) -> Option<Time> {
        self.ends_at
    }

    /// It ended, and was seen to: a late answer does not revive it.
    pub fn end(&mut self) {
        self.ends_at = None;
        self.sent.clear();
    }

    /// When the last request of this session was sent; `None` if none was or all were answered since.
    #[must_use]
    pub fn last_sent_at(&self) -> Option<Time> {
        self.sent.back().map(|&(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn it_counts_from_when_the_request_was_sent() {
        let mut right = Right::default();
        right.session_began(Duration::from_secs(10));
        assert!(!right.lasts(at(0)));
        let first = right.sent(at(1));
        let second = right.sent(at(3));
        right.answered(first);
        assert_eq!(right.ends_at(), Some(at(11)), "the answer's own time does not matter");
        right.answered(second);
        assert_eq!(right.ends_at(), Some(at(13)));
        right.answered(first);
        right.answered(99);
        assert_eq!(right.ends_at(), Some(at(13)), "an old or unknown number changes nothing");
        assert!(right.lasts(at(12)) && !right.lasts(at(13)));
    }

    #[test]
    fn an_answer_of_an_older_session_or_after_its_end_does_not_revive_it() {
        let mut right = Right::default();
        right.session_began(Duration::from_secs(10));
        let number = right.sent(at(0));
        right.session_began(Duration::from_secs(10));
        right.answered(number);
        assert_eq!(right.ends_at(), None);
        let number = right.sent(at(0));
        right.end();
        right.answered(number);
        assert_eq!(right.ends_at(), None);
    }
}
