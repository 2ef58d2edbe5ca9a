//! The coordinator's page as people use it: a real browser, headless, on a real coordinator, in a network namespace of its own.
//!
//! Needs root, `ip`, `nft`, and Debian's `chromium` and `chromium-driver`. Without them the tests are listed as ignored; with
//! `PORTSWEEP_TEST_REQUIRE=all` they fail.

mod browser;
mod collection;
mod flows;
mod hostile;
mod site;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(flows::trials());
    trials.extend(hostile::trials());
    trials.extend(collection::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
