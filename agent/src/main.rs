//! The `portsweep-agent` program. So far it only says what it is: agents of other machines come with the fleet.

use std::process::ExitCode;

fn main() -> ExitCode {
    let about = concat!("portsweep-agent ", env!("CARGO_PKG_VERSION"));
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("--version" | "-V") => {
            anstream::println!("{about}");
            ExitCode::SUCCESS
        }
        _ => {
            anstream::eprintln!(
                "{about}: agents on other machines are not available yet; `portsweep` scans from this one"
            );
            ExitCode::from(2)
        }
    }
}
