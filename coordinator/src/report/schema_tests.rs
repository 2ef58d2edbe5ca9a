//! The schema in the repository and what we write agree: samples are valid, and broken ones are refused.

use super::{json, sample};
use coordinator_core::host::Host;
use protocol::probe::{Cause, Reason, State};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../schema/result-1.json")).unwrap()
}

fn text(facts: &super::ScanFacts, mut rows: &[Host]) -> String {
    let mut text = Vec::new();
    json::write(&mut text, facts, &mut rows).unwrap();
    String::from_utf8(text).unwrap()
}

fn value(sample: &(super::ScanFacts, Vec<Host>)) -> Value {
    serde_json::from_str(&text(&sample.0, &sample.1)).unwrap()
}

#[test]
fn the_sample_is_written_as_it_was() {
    let (facts, rows) = sample::mixed();
    assert_eq!(text(&facts, &rows), include_str!("testdata/mixed.json"));
}

#[test]
fn an_empty_result_is_written_as_it_was() {
    let (facts, rows) = sample::pinged(0);
    assert_eq!(text(&facts, &rows), include_str!("testdata/silent.json"));
}

#[test]
fn what_is_written_is_valid() {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for sample in [sample::mixed(), sample::every_cause(), sample::pinged(0), sample::pinged(3)] {
        let result = value(&sample);
        let objections: Vec<_> = validator.iter_errors(&result).map(|e| e.to_string()).collect();
        assert!(objections.is_empty(), "{objections:#?}");
    }
}

#[test]
fn the_summary_adds_up() {
    for sample in [sample::mixed(), sample::every_cause(), sample::pinged(3)] {
        let result = value(&sample);
        let sum =
            |value: &Value| -> u64 { value.as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum() };
        let summary = &result["summary"];
        let states = sum(&summary["states"]) + sum(&summary["not_probed"]);
        assert_eq!(summary["targets"].as_u64().unwrap(), states);
        assert_eq!(sum(&summary["addresses"]), sample.1.len() as u64, "each address in one list");
    }
}

#[test]
fn what_is_broken_is_refused() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = value(&sample::mixed());
    assert!(validator.is_valid(&good));
    let breakages: &[(&str, Value)] = &[
        ("/schema", json!("portsweep/2")),
        ("/scan/id", json!("1")),
        ("/scan/status", json!("finished")),
        ("/scan/started", json!("2026-01-02 03:04:05")),
        ("/scan/ports", json!("22, 80")),
        ("/scan/kinds/0", json!("udp")),
        ("/scan/seed", json!(-1)),
        ("/scan/plan", json!("c0ffee")),
        ("/summary/states/open", json!(1.5)),
        ("/summary/not_probed", json!({"tired": 1})),
        ("/summary/estimated_loss", json!(1.1)),
        ("/summary/estimated_loss_interval", json!([0.1])),
        ("/summary/estimated_loss_interval", json!([0.1, 1.1])),
        ("/summary/window", json!(0)),
        ("/agents/0/ping_method", json!("arp")),
        ("/hosts/0/address", json!("www.example")),
        ("/hosts/0/status/state", json!("down")),
        ("/hosts/0/status/reason", json!("no-response")),
        ("/hosts/0/ports/0/port", json!(65_536)),
        ("/hosts/0/ports/0/state", json!("not-probed")),
        ("/hosts/0/not_shown/0", json!({"state": "closed", "count": 3})),
        ("/silent/0/addresses", json!("192.0.2.12-")),
        ("/silent/0/count", json!(0)),
        ("/not_probed/0/cause", json!("tired")),
    ];
    for (place, wrong) in breakages {
        let mut broken = good.clone();
        *broken.pointer_mut(place).unwrap() = wrong.clone();
        assert!(!validator.is_valid(&broken), "{place} = {wrong}");
    }
    for (place, key) in [("", "hosts"), ("/scan", "seed"), ("/summary", "not_probed"), ("/hosts/0", "status")] {
        let mut broken = good.clone();
        broken.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        assert!(!validator.is_valid(&broken), "without {place}/{key}");
    }
}

#[test]
fn additions_are_tolerated() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut result = value(&sample::mixed());
    result["hosts"][0]["ports"][0]["service"] = json!({"name": "ssh"});
    assert!(validator.is_valid(&result));
}

/// Every state, reason and cause that can be written is one that the schema knows, and it knows no others.
#[test]
fn the_schema_knows_our_words() {
    let schema = schema();
    let words = |name: &str| -> Vec<String> {
        let mut words: Vec<String> = serde_json::from_value(schema["$defs"][name]["enum"].clone()).unwrap();
        words.sort();
        words
    };
    let sorted = |mut words: Vec<&'static str>| {
        words.sort_unstable();
        words
    };
    assert_eq!(words("cause"), sorted(Cause::ALL.iter().map(|cause| cause.as_str()).collect()));
    assert_eq!(words("reason"), sorted(Reason::ALL.iter().map(|reason| reason.as_str()).collect()));
    let port_states = [State::Open, State::Closed, State::Filtered];
    assert_eq!(words("port_state"), sorted(port_states.iter().map(|state| state.as_str()).collect()));
}

#[test]
fn bad_input_89_a_host_with_every_port_open_is_bounded() {
    use protocol::probe::{Outcome, ProbeKind, Slot};
    let open: Vec<_> = (1..=u16::MAX).map(|port| (Slot::Tcp(port), Outcome::OPEN)).collect();
    let rows = vec![sample::row("192.0.2.1", &open)];
    let result = value(&(sample::facts(&rows, &[ProbeKind::Tcp]), rows));
    assert_eq!(result["hosts"][0]["ports"].as_array().unwrap().len(), 1_024);
    assert_eq!(
        result["hosts"][0]["not_shown"],
        json!([{"state": "open", "reason": "syn-ack", "count": 65_535 - 1_024}])
    );
    assert_eq!(result["hosts"][0]["flags"], json!(["all-open-suspect"]));
    assert!(jsonschema::validator_for(&schema()).unwrap().is_valid(&result));
}
