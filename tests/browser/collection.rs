//! The Postman collection of `deploy/postman` does what it says against a real coordinator. What runs it is `collection.mjs`.

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use portsweep_tests::lab::{self, Need};
use std::path::Path;
use std::time::Duration;

use crate::site::{PAGE, Site};

pub(crate) fn trials() -> Vec<Trial> {
    vec![lab::trial("the_postman_collection_runs_against_a_coordinator", &[Need::Hosts, Need::Program("node")], run)]
}

const RUN_TIMEOUT: Duration = Duration::from_secs(120);

fn run() -> anyhow::Result<()> {
    let mut site = Site::new()?;
    let key = site.key()?;
    let interpreter = lab::program("node").context("node is gone")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let runner = here.join("browser/collection.mjs");
    let file = here.join("../deploy/postman/portsweep.postman_collection.json");
    let words = [runner.as_os_str(), file.as_os_str(), PAGE.as_ref(), key.as_ref()];
    let ran = site.host.command(&interpreter).args(words).run(RUN_TIMEOUT)?.expect_code(0)?;
    ensure!(ran.stdout.ends_with(" 0 failed\n"), "{}", ran.transcript());
    site.end()
}
