//! portsweep beside other scanners, in the lab: who is how fast, at what cost, and how right.
//!
//!     cargo run --release -p portsweep-tests --bin bench -- CASE
//!
//! A case is a network and a list of [`measure::Tool`]s that are run on it in turn; what is printed are
//! medians. Tools that are not installed are named and left out. Needs root (see `lab`).

mod bare;
mod connect;
mod fleet;
mod fleet_lab;
mod full_speed;
mod interrupt;
mod lab_load;
mod maps;
mod measure;
mod networks;
mod page;
mod size;
mod store;
mod tools;

use std::env;
use std::io::{self, Write};

use anyhow::bail;
use portsweep_tests::lab::{self, Need};

/// A case: its name, what it measures, what it needs of the machine, how it is run.
struct Case {
    name: &'static str,
    about: &'static str,
    needs: &'static [Need],
    run: fn() -> anyhow::Result<String>,
}

const CASES: [Case; 17] = [
    Case {
        name: "connect",
        about: "65,535 refusing ports of one host over a veth",
        needs: &[Need::Hosts],
        run: connect::run,
    },
    Case {
        name: "hard",
        about: "a /24 by 1,000 ports: half empty, half silent, 10-80 ms, 1 % lost each way",
        needs: &[Need::Hosts],
        run: networks::hard,
    },
    Case {
        name: "wide",
        about: "a /16 by 10 ports: half empty, half silent, 10-80 ms, 1 % lost each way",
        needs: &[Need::Hosts],
        run: networks::wide,
    },
    Case { name: "ping", about: "65,536 addresses that answer", needs: &[Need::Hosts], run: networks::ping },
    Case {
        name: "ping-hard",
        about: "65,536 addresses, half empty, 10-80 ms, 1 % lost each way",
        needs: &[Need::Hosts],
        run: networks::ping_hard,
    },
    Case {
        name: "size",
        about: "10.0.0.0/8 by all ports: first probe, and memory over a minute, silent and at full speed",
        needs: &[Need::Hosts],
        run: size::run,
    },
    Case {
        name: "lab",
        about: "how many SYNs a second the simulated network takes",
        needs: &[Need::Hosts],
        run: lab_load::run,
    },
    Case {
        name: "interrupt",
        about: "how long a scan takes to end after Ctrl-C",
        needs: &[Need::Hosts],
        run: interrupt::run,
    },
    Case {
        name: "fleet-link",
        about: "one agent over the link, and the same scan in one process",
        needs: &[Need::Hosts],
        run: fleet::link,
    },
    Case {
        name: "fleet-four",
        about: "four agents with a quarter of the rate each, and one with the whole",
        needs: &[Need::Hosts],
        run: fleet::four,
    },
    Case {
        name: "fleet-slow",
        about: "one of four agents slowed to a twenty-fifth, or gone, in the middle of a scan",
        needs: &[Need::Hosts],
        run: fleet::slow,
    },
    Case {
        name: "fleet-killed",
        about: "one of three agents killed in the middle of a scan",
        needs: &[Need::Hosts],
        run: fleet::killed,
    },
    Case {
        name: "fleet-restart",
        about: "the coordinator killed in the middle of a scan, and started again",
        needs: &[Need::Hosts],
        run: fleet::restart,
    },
    Case {
        name: "fleet-changes",
        about: "how soon a rate, an exclusion and a pause act",
        needs: &[Need::Hosts],
        run: fleet::changes,
    },
    Case {
        name: "page",
        about: "what 200 readers of the events and 50 pages a second cost a scan",
        needs: &[Need::Hosts],
        run: page::run,
    },
    Case { name: "maps", about: "the maps of a scan of 10^9 targets, at every zoom", needs: &[], run: maps::run },
    Case { name: "store", about: "16 million targets committed to the durable store", needs: &[], run: store::run },
];

/// What makes this program a scanner to be measured, and not the benchmark.
const BARE: &str = "bare-loop";
const FULL_SPEED: &str = "full-speed";

fn main() -> anyhow::Result<()> {
    let words: Vec<_> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [BARE, target] => return bare::run(target),
        [FULL_SPEED, directory] => return full_speed::run(directory.as_ref()),
        _ => {}
    }
    let case = chosen(&words)?;
    if let Some(reason) = lab::missing(case.needs) {
        bail!("cannot run without: {reason}");
    }
    let table = (case.run)()?;
    write!(io::stdout(), "{}: {}\n{table}", case.name, case.about)?;
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<&'static Case> {
    let [name] = names else { bail!("say one case: {}", listed()) };
    let case = CASES.iter().find(|case| case.name == name);
    case.ok_or_else(|| anyhow::anyhow!("no case {name}; there are: {}", listed()))
}

fn listed() -> String {
    CASES.map(|case| format!("{} ({})", case.name, case.about)).join(", ")
}
