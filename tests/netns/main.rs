//! What is promised of the real binary, tried in network namespaces of this machine. One module a
//! promise; [`lab`] tests the lab itself, [`world`] is the network that most tests share.
//!
//! Needs root, `ip` and `nft`. Without them the tests are listed as ignored; with
//! `PORTSWEEP_TEST_REQUIRE=all` they fail.

mod accuracy;
mod api;
mod bad_input;
mod bad_state;
mod discover;
mod fleet;
mod fleet_simulated;
mod fleet_world;
mod following;
mod hostile_coordinator;
mod hostile_network;
mod hostile_session;
mod judge;
mod kept;
mod lab;
mod lacks;
mod limits;
mod loss_estimate;
mod output;
mod passes;
mod ping_permission;
mod rate;
mod resume;
mod serve;
mod serve_container;
mod settings;
mod stall;
mod sweep;
mod sweeping;
mod world;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    trials.extend(lab::trials());
    trials.extend(judge::trials());
    trials.extend(sweep::trials());
    trials.extend(fleet::trials());
    trials.extend(fleet_simulated::trials());
    trials.extend(output::trials());
    trials.extend(discover::trials());
    trials.extend(following::trials());
    trials.extend(passes::trials());
    trials.extend(ping_permission::trials());
    trials.extend(rate::trials());
    trials.extend(limits::trials());
    trials.extend(lacks::trials());
    trials.extend(settings::trials());
    trials.extend(resume::trials());
    trials.extend(serve::trials());
    trials.extend(serve_container::trials());
    trials.extend(api::trials());
    trials.extend(kept::trials());
    trials.extend(bad_state::trials());
    trials.extend(bad_input::trials());
    trials.extend(hostile_network::trials());
    trials.extend(hostile_coordinator::trials());
    trials.extend(stall::trials());
    trials.extend(loss_estimate::trials());
    trials.extend(accuracy::trials());
    libtest_mimic::run(&arguments, trials).exit();
}
