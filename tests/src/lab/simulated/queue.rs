//! Answers on their way: each with the time at which it is to be sent. Bounded.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::frame::Frame;

/// Answers that may be on their way: 300,000 a second for three seconds.
const ANSWERS_MAX: usize = 1 << 20;

/// The queue. Of answers for the same time the one that came first is sent first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Time, order of arrival, place in `frames`.
    due: BinaryHeap<Reverse<(Duration, u64, u32)>>,
    frames: Vec<Frame>,
    free: Vec<u32>,
    arrived: u64,
}

impl Queue {
    /// Takes an answer; false if there is no room.
    pub(super) fn push(&mut self, at: Duration, frame: Frame) -> bool {
        if self.due.len() >= ANSWERS_MAX {
            return false;
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.frames[place as usize] = frame;
                place
            }
            None => {
                self.frames.push(frame);
                (self.frames.len() - 1) as u32
            }
        };
        self.arrived += 1;
        self.due.push(Reverse((at, self.arrived, place)));
        true
    }

    /// When the next is to be sent.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, ..))| *at)
    }

    /// Moves what is to be sent by `now` into `batch`, up to its capacity; returns how late the latest is.
    pub(super) fn pop_due(&mut self, now: Duration, batch: &mut Vec<Frame>) -> Duration {
        let mut late = Duration::ZERO;
        while batch.len() < batch.capacity() {
            let Some(Reverse((at, _, place))) = self.due.peek().copied().filter(|Reverse((at, ..))| *at <= now) else {
                break;
            };
            self.due.pop();
            self.free.push(place);
            batch.push(self.frames[place as usize].clone());
            late = late.max(now - at);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_their_times_and_then_of_arrival() {
        let frame = |byte| Frame::copied(&[byte; 60]).unwrap();
        let mut queue = Queue::default();
        for (at, byte) in [(30, 1), (10, 2), (20, 3), (10, 4)] {
            assert!(queue.push(Duration::from_millis(at), frame(byte)));
        }
        assert_eq!(queue.next_at(), Some(Duration::from_millis(10)));
        let mut batch = Vec::with_capacity(8);
        assert_eq!(queue.pop_due(Duration::from_millis(25), &mut batch), Duration::from_millis(15));
        let bytes: Vec<_> = batch.iter().map(|frame| frame.bytes()[0]).collect();
        assert_eq!(bytes, [2, 4, 3]);
        assert_eq!(queue.next_at(), Some(Duration::from_millis(30)));
        batch.clear();
        assert_eq!(queue.pop_due(Duration::from_millis(29), &mut batch), Duration::ZERO);
        assert!(batch.is_empty());
    }
}
