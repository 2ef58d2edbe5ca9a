//! Compares a result with the truth, target by target, and with itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab;
use serde_json::{Value, json};

use crate::world::{self, Others, Truth};

/// What was asked of every address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) ping: bool,
    pub(crate) ports: &'a [u16],
}

/// State and reason of a target. `no-response` and `host-unreach` count as one, silence.
pub(crate) type Found = (&'static str, &'static str);

/// Holds `result` against `truths`: every target has the true state and reason, every address
/// stands in exactly one list, and the summary is the sum of it all.
pub(crate) fn judge(result: &Value, truths: &[Truth], asked: Asked<'_>) -> anyhow::Result<()> {
    schema(result)?;
    compare(result, truths, asked)
}

fn compare(result: &Value, truths: &[Truth], asked: Asked<'_>) -> anyhow::Result<()> {
    ensure!(result["schema"] == "portsweep/1", "schema is {}", result["schema"]);
    ensure!(result["scan"]["status"] == "done", "status is {}", result["scan"]["status"]);

    let mut hosts = listed_hosts(result)?;
    let mut silent = listed_silent(result)?;
    ensure!(result["not_probed"] == Value::Array(Vec::new()), "{}", result["not_probed"]);
    for truth in truths {
        let address: IpAddr = truth.address.parse()?;
        let found = (hosts.remove(&address), silent.remove(&address));
        match (shows_life(truth, asked), found) {
            (true, (Some(host), None)) => judge_host(host, truth, asked),
            (false, (None, Some(status))) => judge_silent(status, asked),
            (life, (host, silent)) => {
                bail!("{address}: shows life: {life}; in hosts: {host:?}; in silent: {silent:?}")
            }
        }
        .with_context(|| truth.address)?;
    }
    ensure!(hosts.is_empty(), "never asked for: {hosts:?}");
    ensure!(silent.is_empty(), "never asked for: {silent:?}");
    judge_summary(&result["summary"], truths, asked)
}

/// Holds `result` against the JSON Schema of the repository.
pub(crate) fn schema(result: &Value) -> anyhow::Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../coordinator/schema/result-1.json");
    let schema = std::fs::read(path).context("failed to read the JSON Schema of results")?;
    let schema: Value = serde_json::from_slice(&schema)?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{error}"))?;
    let objections: Vec<_> =
        validator.iter_errors(result).map(|error| format!("{}: {error}", error.instance_path())).collect();
    ensure!(objections.is_empty(), "the schema objects: {}", objections.join("; "));
    Ok(())
}

fn shows_life(truth: &Truth, asked: Asked<'_>) -> bool {
    let answers = |port: &u16| port_truth(truth, *port).0 != "filtered";
    (asked.ping && truth.answers_ping) || asked.ports.iter().any(answers)
}

/// State and reason of a port.
pub(crate) fn port_truth(truth: &Truth, port: u16) -> Found {
    if truth.open.contains(&port) {
        return ("open", "syn-ack");
    }
    match truth.others {
        Others::RefuseBut(silent) if !silent.contains(&port) => ("closed", "conn-refused"),
        _ => ("filtered", "no-response"),
    }
}

fn judge_host(host: &Value, truth: &Truth, asked: Asked<'_>) -> anyhow::Result<()> {
    let status = &host["status"];
    ensure!(status["state"] == "up", "status is {status}");
    let reason = status["reason"].as_str().unwrap_or_default();
    let mut signs: Vec<_> = asked.ports.iter().map(|port| port_truth(truth, *port).1).collect();
    signs.retain(|reason| *reason != "no-response");
    signs.extend((asked.ping && truth.answers_ping).then_some("echo-reply"));
    ensure!(signs.contains(&reason), "{reason} is no sign of life that it gives");

    let mut listed = BTreeMap::new();
    for entry in host["ports"].as_array().context("no ports")? {
        let number = entry["port"].as_u64().context("a port has no number")?;
        ensure!(entry["protocol"] == "tcp", "{entry}");
        ensure!(listed.insert(number, entry).is_none(), "port {number} stands there twice");
    }
    for port in asked.ports {
        let entry = listed.remove(&u64::from(*port)).with_context(|| format!("no port {port}"))?;
        let (state, reason) = port_truth(truth, *port);
        ensure!(entry["state"] == state && entry["reason"] == reason, "{state}, {reason}: {entry}");
        if state == "open" {
            ensure!(entry["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0), "no time: {entry}");
            ensure!(entry["seen_by"].as_array().is_some_and(|by| !by.is_empty()), "{entry}");
        }
    }
    ensure!(listed.is_empty(), "never asked for: {listed:?}");
    Ok(())
}

fn judge_silent(status: &Value, asked: Asked<'_>) -> anyhow::Result<()> {
    let state = if asked.ping { "down" } else { "unknown" };
    ensure!(status["state"] == state, "{state} was expected: {status}");
    let reason = status["reason"].as_str().unwrap_or_default();
    ensure!(["no-response", "host-unreach"].contains(&reason), "{reason} is not silence");
    Ok(())
}

fn judge_summary(summary: &Value, truths: &[Truth], asked: Asked<'_>) -> anyhow::Result<()> {
    let (mut states, mut hosts, mut targets) = (BTreeMap::<_, u64>::new(), 0_u64, 0_u64);
    for truth in truths {
        hosts += u64::from(shows_life(truth, asked));
        if asked.ping {
            *states.entry(if truth.answers_ping { "up" } else { "down" }).or_default() += 1;
            targets += 1;
        }
        for port in asked.ports {
            *states.entry(port_truth(truth, *port).0).or_default() += 1;
            targets += 1;
        }
    }
    let silent = u64::try_from(truths.len())? - hosts;
    ensure!(summary["targets"] == targets && summary["probed"] == targets, "{targets}: {summary}");
    let addresses = &summary["addresses"];
    ensure!(addresses["hosts"] == hosts && addresses["silent"] == silent, "{hosts}: {summary}");
    ensure!(addresses["not_probed"] == 0, "{summary}");
    for state in ["open", "closed", "filtered", "up", "down"] {
        let expected = states.get(state).copied().unwrap_or(0);
        ensure!(summary["states"][state].as_u64().unwrap_or(0) == expected, "{state} is {expected}: {summary}");
    }
    let not_probed = summary["not_probed"].as_object().context("no summary of not-probed")?;
    ensure!(not_probed.values().all(|count| count == 0), "{summary}");
    Ok(())
}

fn listed_hosts(result: &Value) -> anyhow::Result<BTreeMap<IpAddr, &Value>> {
    let mut hosts = BTreeMap::new();
    let mut last = None;
    for host in result["hosts"].as_array().context("no hosts")? {
        let address: IpAddr = host["address"].as_str().context("a host has no address")?.parse()?;
        ensure!(last < Some(address), "{address} is not in address order, or there twice");
        last = Some(address);
        hosts.insert(address, host);
    }
    Ok(hosts)
}

fn listed_silent(result: &Value) -> anyhow::Result<BTreeMap<IpAddr, &Value>> {
    let mut silent = BTreeMap::new();
    for entry in result["silent"].as_array().context("no list of silent addresses")? {
        let range = entry["addresses"].as_str().context("a silent entry has no addresses")?;
        let addresses = expand(range)?;
        ensure!(entry["count"] == addresses.len(), "{entry}");
        for address in addresses {
            let doubled = silent.insert(address, &entry["status"]).is_some();
            ensure!(!doubled, "{address} is in two entries of `silent`");
        }
    }
    Ok(silent)
}

/// The addresses of `A` or `A-B`, which must be few.
fn expand(range: &str) -> anyhow::Result<Vec<IpAddr>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let mut address: IpAddr = first.parse()?;
    let last: IpAddr = last.parse()?;
    let mut addresses = vec![address];
    while address != last {
        ensure!(addresses.len() < 1024, "{range} does not end");
        address = match address {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + 1).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) + 1).into()),
        };
        addresses.push(address);
    }
    Ok(addresses)
}

/// The judge itself is judged: a true result passes, and each way of being wrong does not.
pub(crate) fn trials() -> Vec<Trial> {
    vec![lab::trial("judge_accepts_the_truth_and_nothing_else", &[], accepts_only_the_truth)]
}

fn accepts_only_the_truth() -> anyhow::Result<()> {
    let asked = Asked { ping: true, ports: &[22, 443, 9000] };
    let truths = &world::V4[1..];
    compare(&true_result(), truths, asked)?;
    let wrong: [(&str, Value); 16] = [
        ("/schema", json!("portsweep/2")),
        ("/scan/status", json!("partial")),
        ("/summary/targets", json!(11)),
        ("/summary/probed", json!(0)),
        ("/summary/addresses/silent", json!(1)),
        ("/summary/states/filtered", json!(6)),
        ("/summary/not_probed", json!({"pending": 1})),
        ("/hosts", json!([])),
        ("/hosts/0/address", json!("192.0.2.11")),
        ("/hosts/0/status/reason", json!("echo-reply")),
        ("/hosts/0/ports/0/state", json!("open")),
        ("/hosts/0/ports/1/reason", json!("no-response")),
        ("/hosts/0/ports/2/port", json!(9001)),
        ("/silent/0/addresses", json!("192.0.2.13")),
        ("/silent/0/status/state", json!("up")),
        ("/not_probed", json!([{"addresses": "192.0.2.14", "targets": 1, "cause": "no-route"}])),
    ];
    for (place, value) in wrong {
        let mut result = true_result();
        let at = result.pointer_mut(place).with_context(|| format!("no {place}"))?;
        ensure!(*at != value, "{place} is not made wrong");
        *at = value;
        ensure!(compare(&result, truths, asked).is_err(), "a wrong {place} was accepted");
    }
    Ok(())
}

/// The result of three addresses, of which one refuses on two ports and drops on the third.
fn true_result() -> Value {
    let port = |port: u16, state: &str, reason: &str| json!({"port": port, "protocol": "tcp", "state": state, "reason": reason});
    json!({
        "schema": "portsweep/1",
        "scan": {"status": "done"},
        "summary": {
            "targets": 12, "probed": 12,
            "addresses": {"hosts": 1, "silent": 2, "not_probed": 0},
            "states": {"open": 0, "closed": 2, "filtered": 7, "up": 0, "down": 3},
            "not_probed": {},
        },
        "hosts": [{
            "address": "192.0.2.12",
            "status": {"state": "up", "reason": "conn-refused"},
            "ports": [
                port(22, "closed", "conn-refused"),
                port(443, "closed", "conn-refused"),
                port(9000, "filtered", "no-response"),
            ],
        }],
        "silent": [{
            "addresses": "192.0.2.13-192.0.2.14", "count": 2,
            "status": {"state": "down", "reason": "no-response"},
        }],
        "not_probed": [],
    })
}
