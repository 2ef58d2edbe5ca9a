//! What those who follow are told of agents, and when it is a snapshot.

use super::*;
use crate::fleet::roster::Standing;

fn agent(name: &str, connected: bool, seen_at: i64) -> AgentView {
    AgentView {
        id: name.to_owned(),
        name: name.to_owned(),
        vantage: name.to_owned(),
        labels: BTreeMap::new(),
        standing: Standing::Good,
        connected,
        connected_at: None,
        rtt_us: None,
        drained: false,
        draining: false,
        rests_until: None,
        seen_at: Some(seen_at),
        peer: None,
        software: "0".to_owned(),
        ping_method: None,
        allow: Vec::new(),
        instance: None,
        joined_at: 0,
        serial: "1".to_owned(),
        certificate_ends_at: 0,
        error_at: None,
        error: None,
    }
}

/// What a reader that saw `seen` is told: the kinds of events, or how many scans and agents a snapshot has.
fn told(feed: &Feed, seen: Option<EventId>, of: Option<ScanId>) -> Result<Vec<&'static str>, (usize, usize)> {
    match feed.since(seen, of) {
        Since::Events(entries, _) => Ok(entries.iter().map(|entry| entry.kind).collect()),
        Since::Snapshot(scans, agents, _) => Err((scans.len(), agents.len())),
    }
}

#[test]
fn a_change_of_an_agent_is_told_once_and_to_who_follows_all() {
    let mut feed = Feed::new(1, Vec::new());
    let begin = feed.last();
    assert!(feed.agents_are(vec![agent("a", true, 1), agent("b", false, 1)]));
    assert!(!feed.agents_are(vec![agent("a", true, 9), agent("b", false, 9)]), "when it was heard is no news");
    assert!(feed.agents_are(vec![agent("a", true, 9), agent("b", true, 9)]));
    assert_eq!(told(&feed, Some(begin), None), Ok(vec!["agent", "agent", "agent"]));
    assert_eq!(told(&feed, Some(begin), Some(ScanId::from_bytes([7; 16]))), Ok(vec![]), "a scan has no agents");
    assert_eq!(told(&feed, None, None), Err((0, 2)), "a first connection gets them all");
}

#[test]
fn that_a_drained_agent_has_nothing_in_hand_any_more_is_told() {
    let mut feed = Feed::new(1, Vec::new());
    let drained = AgentView { drained: true, ..agent("a", true, 1) };
    let drains = |in_hand| Event::Drains { agent: "a".to_owned(), in_hand };
    feed.told(&drains(true));
    feed.agents_are(vec![drained.clone(), agent("b", true, 1)]);
    let begin = feed.last();
    assert!(feed.is_draining(&drained));
    feed.told(&drains(false));
    let Since::Events(entries, _) = feed.since(Some(begin), None) else { panic!("a snapshot") };
    assert_eq!(entries.len(), 1, "of this agent alone");
    assert!(entries[0].data.contains("\"drained\":true,\"draining\":false"), "{}", entries[0].data);
    feed.told(&drains(false));
    assert_eq!(feed.last(), EventId { number: begin.number + 1, ..begin }, "it is no news");
}

#[test]
fn what_is_too_long_ago_or_of_another_process_is_one_snapshot_and_never_silence() {
    let mut feed = Feed::new(1, Vec::new());
    let begin = feed.last();
    for number in 0..=EVENTS_MAX as i64 {
        // Each time another one comes or goes.
        feed.agents_are(vec![agent("a", number % 2 == 0, 0)]);
    }
    assert_eq!(feed.kept(), EVENTS_MAX);
    assert_eq!(told(&feed, Some(begin), None), Err((0, 1)), "the first event is gone");
    let last = feed.last();
    assert_eq!(told(&feed, Some(last), None), Ok(vec![]), "nothing came after the last");
    let second = EventId { number: 1, ..begin };
    assert_eq!(told(&feed, Some(second), None).map(|kinds| kinds.len()), Ok(EVENTS_MAX), "the oldest that is there");
    for wrong in [EventId { run: 2, ..last }, EventId { number: last.number + 1, ..last }] {
        assert_eq!(told(&feed, Some(wrong), None), Err((0, 1)), "{wrong} is none of ours");
    }
}
