//! portsweep beside other scanners, in the lab: who is how fast, at what cost, and how right.
//!
//!     cargo run --release -p portsweep-tests --bin bench -- CASE
//!
//! A case is a network and a list of [`measure::Tool`]s that are run on it in turn; what is printed are
//! medians. Tools that are not installed are named and left out. Needs root (see `lab`).

mod connect;
mod lab_load;
mod measure;
mod store;

use std::env;
use std::io::{self, Write};

use anyhow::bail;

/// A case: its name, what it measures, how it is run.
struct Case {
    name: &'static str,
    about: &'static str,
    run: fn() -> anyhow::Result<String>,
}

const CASES: [Case; 3] = [
    Case { name: "connect", about: "65,535 refusing ports of one host over a veth", run: connect::run },
    Case { name: "lab", about: "how many SYNs a second the simulated network takes", run: lab_load::run },
    Case { name: "store", about: "16 million targets committed to the durable store", run: store::run },
];

fn main() -> anyhow::Result<()> {
    let case = chosen()?;
    let table = (case.run)()?;
    write!(io::stdout(), "{}: {}\n{table}", case.name, case.about)?;
    Ok(())
}

fn chosen() -> anyhow::Result<&'static Case> {
    let names: Vec<_> = env::args().skip(1).collect();
    let [name] = names.as_slice() else { bail!("say one case: {}", listed()) };
    let case = CASES.iter().find(|case| case.name == name);
    case.ok_or_else(|| anyhow::anyhow!("no case {name}; there are: {}", listed()))
}

fn listed() -> String {
    CASES.map(|case| format!("{} ({})", case.name, case.about)).join(", ")
}
