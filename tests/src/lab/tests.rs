//! The lab's own tests that need no privilege. Those that need hosts are in `tests/netns/lab.rs`,
//! where a missing privilege shows.

use super::packets::{Counted, read_counted};

const LISTING: &str = r#"{"nftables": [
    {"metainfo": {"version": "1.0.6"}},
    {"chain": {"family": "inet", "table": "lab", "name": "count"}},
    {"rule": {"comment": "tcp 192.0.2.11", "expr": [{"match": {}}, {"counter": {"packets": 7, "bytes": 420}}]}},
    {"rule": {"comment": "ping 192.0.2.11", "expr": [{"counter": {"packets": 2, "bytes": 168}}]}},
    {"rule": {"comment": "tcp 2001:db8::11", "expr": [{"counter": {"packets": 30, "bytes": 9}}]}}
]}"#;

#[test]
fn counts_are_read_for_one_address_and_for_all() {
    let one = read_counted(LISTING, Some([192, 0, 2, 11].into())).unwrap();
    assert_eq!(one, Counted { tcp: 7, ping: 2 });
    let all = read_counted(LISTING, None).unwrap();
    assert_eq!((all, all.sum()), (Counted { tcp: 37, ping: 2 }, 39));
}

#[test]
fn an_address_that_nobody_counts_is_an_error_and_not_zero() {
    assert!(read_counted(LISTING, Some([192, 0, 2, 99].into())).is_err());
    assert!(read_counted(r#"{"nftables": []}"#, None).is_err());
    assert!(read_counted("", None).is_err());
}
