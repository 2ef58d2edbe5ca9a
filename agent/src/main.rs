//! The `portsweep-agent` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    portsweep_agent::cli::main(std::env::args_os().skip(1))
}
