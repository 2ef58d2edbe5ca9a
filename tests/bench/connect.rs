//! `connect`: one host that refuses on every port, one millisecond away at most. Nothing is waited
//! for, so what is measured is what a connect costs.

use portsweep_tests::lab::{self, Host};

use crate::BARE;
use crate::measure::{Ground, compare};
use crate::tools::{installed, itself, nmap, portsweep, rustscan};

const TARGET: &str = "192.0.2.11";

pub(crate) fn run() -> anyhow::Result<String> {
    let (scanner, target) = (Host::new("scanner")?, Host::new("target")?);
    lab::wire((&scanner, &["192.0.2.1/24"]), (&target, &["192.0.2.11/24"]))?;
    let mut tools = vec![portsweep(&format!("-f tcp -p- --timeout 900ms {TARGET}"))?];
    let (others, left_out) = installed([
        nmap("nmap -sT", &format!("-sT -T5 --min-rate 20000 -p- -Pn {TARGET}")),
        rustscan(&format!("-a {TARGET} -r 1-65535 -b 10000 -t 1000")),
    ]);
    // Its ratio is the share of its speed that portsweep reaches.
    tools.push(itself(BARE, TARGET)?);
    tools.extend(others);
    Ok(compare(&tools, &Ground::Real { scanner: &scanner, target: &target })? + &left_out)
}
