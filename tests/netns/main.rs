//! What is promised of the real binary, tried in network namespaces of this machine. One module a
//! promise; [`lab`] tests the lab itself.
//!
//! Needs root, `ip` and `nft`. Without them the tests are listed as ignored; with
//! `PORTSWEEP_TEST_REQUIRE=all` they fail.

mod lab;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(lab::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
