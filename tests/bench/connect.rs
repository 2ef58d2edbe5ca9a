//! `connect`: one host that refuses on every port, one millisecond away at most. Nothing is waited
//! for, so what is measured is what a connect costs.

use std::path::Path;

use anyhow::bail;
use portsweep_tests::lab::{self, Host, Need};

use crate::measure::{Tool, compare};

const TARGET: &str = "192.0.2.11";

pub(crate) fn run() -> anyhow::Result<String> {
    if let Some(reason) = lab::missing(&[Need::Hosts]) {
        bail!("cannot run without: {reason}");
    }
    let (scanner, target) = (Host::new("scanner")?, Host::new("target")?);
    lab::wire((&scanner, &["192.0.2.1/24"]), (&target, &["192.0.2.11/24"]))?;

    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    let mut tools = vec![Tool {
        name: "portsweep",
        program: lab::bin()?.to_owned(),
        args: words(&format!("-f tcp -p- --timeout 900ms -q -w result.json {TARGET}")),
    }];
    let mut left_out = String::new();
    match lab::missing(&[Need::Program("nmap")]) {
        None => tools.push(Tool {
            name: "nmap -sT",
            program: Path::new("nmap").to_owned(),
            args: words(&format!("-sT -T5 --min-rate 20000 -p- -n -Pn {TARGET}")),
        }),
        Some(reason) => left_out = format!("left out: nmap, for want of {reason}\n"),
    }
    Ok(compare(&tools, &scanner, &target)? + &left_out)
}
