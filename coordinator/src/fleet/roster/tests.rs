//! What the roster promises, by letter.

use super::*;

fn roster() -> (tempfile::TempDir, Roster) {
    let directory = tempfile::tempdir().unwrap();
    let roster = Roster::open(&directory.path().join("coordinator.db")).unwrap();
    (directory, roster)
}

fn deed_at(at: i64) -> Deed<'static> {
    Deed { at, who: "test", what: "try", detail: "" }
}

fn joining(token: u8, key: u8, name: &str) -> Joining {
    Joining {
        digest: [token; 32],
        id: AgentId::new(u64::from(key) << 56 | u64::from(token)),
        public_key: Pin::from_bytes([key; 32]),
        name: name.to_owned().try_into().unwrap(),
        name_chosen: true,
        vantage: None,
        labels: vec!["site=lab".parse().unwrap()],
        software: "0.1.0".to_owned(),
        peer: "192.0.2.9".to_owned(),
    }
}

fn with_tokens(roster: &mut Roster, tokens: std::ops::RangeInclusive<u8>) {
    for token in tokens {
        roster.add_token(&[token; 32], 900, &deed_at(0)).unwrap();
    }
}

fn refused(roster: &mut Roster, joining: &Joining, now: i64) -> Option<Kind> {
    roster.join(joining, now).unwrap().err().map(|refusal| refusal.kind)
}

#[test]
fn bad_input_70_r1_a_token_is_used_by_one_agent() {
    let (_directory, mut roster) = roster();
    with_tokens(&mut roster, 1..=1);
    assert_eq!(refused(&mut roster, &joining(9, 1, "a"), 1), Some(Kind::Token));
    let row = roster.join(&joining(1, 0xff, "a"), 1).unwrap().unwrap();
    assert_eq!((row.name.as_str(), row.vantage.as_str(), row.standing), ("a", "a", Standing::Good));
    assert_eq!(refused(&mut roster, &joining(1, 2, "b"), 2), Some(Kind::TokenUsed));
    // The same key asks again: its answer was lost, and it is who it was.
    assert_eq!(roster.join(&joining(1, 0xff, "other"), 2).unwrap().unwrap(), row);
    assert_eq!(roster.agents().unwrap(), [row]);
}

#[test]
fn a_token_whose_time_is_over_is_refused() {
    let (_directory, mut roster) = roster();
    with_tokens(&mut roster, 1..=1);
    assert_eq!(refused(&mut roster, &joining(1, 1, "a"), 900), Some(Kind::TokenExpired));
    assert_eq!(refused(&mut roster, &joining(1, 1, "a"), 899), None);
}

#[test]
fn r2_names_are_unique_among_those_that_are_not_revoked() {
    let (_directory, mut roster) = roster();
    with_tokens(&mut roster, 1..=6);
    let first = roster.join(&joining(1, 1, "a"), 1).unwrap().unwrap();
    assert_eq!(refused(&mut roster, &joining(2, 2, "a"), 1), Some(Kind::NameTaken));
    let by_machine = Joining { name_chosen: false, ..joining(2, 2, "a") };
    assert_eq!(roster.join(&by_machine, 1).unwrap().unwrap().name.as_str(), "a-2");
    let long = "x".repeat(64);
    assert_eq!(refused(&mut roster, &joining(3, 3, &long), 1), None);
    let by_machine = Joining { name_chosen: false, ..joining(4, 4, &long) };
    assert_eq!(roster.join(&by_machine, 1).unwrap().unwrap().name.as_str().len(), 60);
    roster.revoke(first.id, &deed_at(2)).unwrap();
    assert_eq!(refused(&mut roster, &joining(5, 5, "a"), 3), None);
    // The key of one that is revoked is a new agent.
    assert_eq!(refused(&mut roster, &joining(6, 1, "a"), 3), Some(Kind::NameTaken));
    assert_eq!(roster.find("a").unwrap().unwrap().public_key, Pin::from_bytes([5; 32]));
    assert_eq!(roster.find(&first.id.to_string()).unwrap().unwrap().standing, Standing::Revoked);
    assert_eq!(roster.find("nobody").unwrap(), None);
}

#[test]
fn what_is_kept_is_there_after_a_restart_with_r3_an_audit_row_each() {
    let (directory, mut roster) = roster();
    with_tokens(&mut roster, 1..=1);
    let row = roster.join(&joining(1, 1, "a"), 1).unwrap().unwrap();
    let instances = [1, 2, 3, 2].map(InstanceId::new);
    for instance in instances {
        let allow = vec!["192.0.2.0/24".to_owned()];
        let facts = Facts { software: "0.2.0".to_owned(), ping_method: "icmp", allow, instance };
        let row = roster.agent(row.id).unwrap().unwrap();
        roster.hello(&row, &facts, "192.0.2.9:5", 4).unwrap();
    }
    roster.certified(row.id, "0a", 99, &Deed { what: "sign", ..deed_at(4) }).unwrap();
    roster.label(row.id, &["site=x".parse().unwrap()], &Deed { what: "label", ..deed_at(5) }).unwrap();
    roster.drain(row.id, true, &Deed { what: "drain", ..deed_at(6) }).unwrap();
    roster.copied(row.id, &Deed { what: "copied", ..deed_at(7) }).unwrap();
    roster.failed(row.id, "why", 8).unwrap();
    drop(roster);
    let mut roster = Roster::open(&directory.path().join("coordinator.db")).unwrap();
    let kept = roster.agent(row.id).unwrap().unwrap();
    assert_eq!(kept.instances, [2, 3, 1].map(InstanceId::new), "newest first, each once");
    assert_eq!((kept.standing, kept.drained, kept.seen_at), (Standing::Copied, true, Some(4)));
    assert_eq!((kept.software.as_str(), kept.allow.len(), kept.error), ("0.2.0", 1, Some((8, "why".to_owned()))));
    assert_eq!(kept.labels, ["site=x".parse().unwrap()]);
    let audit: Vec<_> = roster.audit_rows(None, 10).unwrap();
    let what: Vec<_> = audit.iter().rev().map(|row| row.what.as_str()).collect();
    assert_eq!(what, ["try", "join", "sign", "label", "drain", "copied"]);
    assert_eq!(roster.audit_rows(Some(audit[3].key), 1).unwrap(), audit[4..5]);
    let key = roster.audit(&deed_at(9), 3).unwrap();
    roster.count(key, 5).unwrap();
    assert_eq!(roster.audit_rows(None, 1).unwrap()[0].count, 5);
}

#[test]
fn a_store_of_scans_shares_the_file() {
    use crate::store::sqlite::SqliteStore;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("coordinator.db");
    let store = SqliteStore::create(&path).unwrap();
    let mut roster = Roster::open(&path).unwrap();
    with_tokens(&mut roster, 1..=1);
    drop(store);
    SqliteStore::open(&path).unwrap();
    assert_eq!(refused(&mut roster, &joining(1, 1, "a"), 1), None);
}

#[test]
fn a_roster_of_a_later_version_is_not_touched() {
    let (directory, roster) = roster();
    roster.connection.execute("UPDATE fleet_version SET version = 99", []).unwrap();
    drop(roster);
    assert!(matches!(Roster::open(&directory.path().join("coordinator.db")), Err(RosterError::Newer(_))));
}
