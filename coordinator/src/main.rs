//! The `portsweep` program.

use portsweep::cli::{self, ExitCode, Invocation, SystemNames};
use std::io::{self, IsTerminal};

fn main() -> std::process::ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("PORTSWEEP_LOG"))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    run().into()
}

fn run() -> ExitCode {
    let invocation = cli::parse(std::env::args_os().skip(1), &mut io::stdin().lock(), &SystemNames);
    match invocation {
        Ok(Invocation::Print(text)) => {
            anstream::print!("{text}");
            ExitCode::Done
        }
        Ok(Invocation::Scan(request)) => {
            let ask = io::stdin().is_terminal() && io::stderr().is_terminal();
            match cli::confirm(&request, ask, &mut io::stdin().lock(), &mut io::stderr()) {
                Ok(()) => portsweep::scan::run(&request),
                Err(error) => refuse(&error),
            }
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    anstream::eprintln!("portsweep: {error}");
    ExitCode::Usage
}
