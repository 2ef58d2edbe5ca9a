//! The `portsweep` program.

use portsweep::cli::{
    self, ExitCode, Invocation, RemoteCommand, RemoteRequest, ResumeRequest, ScanRequest, ScansRequest, SystemNames,
};
use portsweep::client;
use portsweep::config::Environment;
use portsweep::doctor;
use portsweep::report::dry_run;
use portsweep::scan::{self, Screen};
use portsweep::scans::{self, ScansError};
use portsweep::serve;
use portsweep::state::State;
use std::io::{self, BufWriter, IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Sets what is logged, as `RUST_LOG` does for other programs; wins over `-v`.
const LOG_VARIABLE: &str = "PORTSWEEP_LOG";

fn main() -> std::process::ExitCode {
    let invocation =
        cli::parse(std::env::args_os().skip(1), &Environment::read(), &mut io::stdin().lock(), &SystemNames);
    let exit = match invocation {
        Ok(Invocation::Print(text)) => print(|out| out.write_all(text.as_bytes())),
        Ok(Invocation::Agent(command)) => return portsweep_agent::cli::carry_out(*command, "portsweep agent"),
        Ok(Invocation::Doctor(state)) => examine(&state),
        Ok(Invocation::Remote(request)) => remote(&request),
        Ok(Invocation::Serve(request)) => {
            log(request.verbosity, &Screen::new());
            serve::run(&request)
        }
        Ok(Invocation::Command(command)) => ask(&command),
        Ok(Invocation::Login(request)) => client::log_in(&request),
        Ok(Invocation::Health(at)) => client::health(&at),
        Ok(Invocation::Resume(request)) => resume(&request),
        Ok(Invocation::Scans(request)) => look(&request),
        Ok(Invocation::Scan(request)) if request.dry_run() => print(|out| dry_run::write(out, &request)),
        Ok(Invocation::Scan(request)) => scan(&request),
        Err(error) => {
            refuse(&error);
            error.exit()
        }
    };
    exit.into()
}

fn scan(request: &ScanRequest) -> ExitCode {
    let screen = Screen::new();
    log(request.output().verbosity, &screen);
    let ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    // Not in the match below: the lock would be held there, and Enter could not be heard.
    let confirmed = cli::confirm(request, ask, &mut io::stdin().lock(), &mut io::stderr());
    match confirmed {
        Ok(()) => scan::run(request, &screen),
        Err(error) => refuse(&error),
    }
}

fn remote(request: &RemoteRequest) -> ExitCode {
    let screen = Screen::new();
    log(request.output.verbosity, &screen);
    client::scan(request, &screen)
}

fn resume(request: &ResumeRequest) -> ExitCode {
    let screen = Screen::new();
    log(0, &screen);
    scan::resume(request, &screen)
}

fn ask(command: &RemoteCommand) -> ExitCode {
    let screen = Screen::new();
    log(0, &screen);
    client::carry_out(command, &screen, terminal_width())
}

/// Of the terminal that standard output is; `None` where it is none.
fn terminal_width() -> Option<usize> {
    let width = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    width.filter(|width| *width > 0)
}

fn look(request: &ScansRequest) -> ExitCode {
    log(0, &Screen::new());
    let mut refused = None;
    let printed = print(|out| match scans::carry_out(request, out, terminal_width()) {
        Ok(()) => Ok(()),
        Err(ScansError::Io(error)) => Err(error),
        Err(error) => {
            refused = Some(error);
            Ok(())
        }
    });
    match refused {
        None => printed,
        Some(error) => {
            let exit = error.exit();
            anstream::eprintln!("portsweep: {:#}", anyhow::Error::from(error));
            exit
        }
    }
}

fn examine(state: &State) -> ExitCode {
    log(0, &Screen::new());
    let mut findings = doctor::examine(&doctor::Machine::read());
    findings.push(doctor::state(state.directory()));
    match print(|out| doctor::write(out, &findings)) {
        ExitCode::Done if doctor::stops_scanning(&findings) => ExitCode::Failed,
        exit => exit,
    }
}

/// Sends log lines to stderr, past the screen's bar.
fn log(verbosity: u8, screen: &Screen) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let screen = screen.clone();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || screen.clone()).with_ansi(false).init();
}

/// Writes a text to standard output. A reader that left has seen enough.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> ExitCode {
    let mut out = BufWriter::new(anstream::stdout().lock());
    let written = write(&mut out).and_then(|()| out.flush());
    // What could not be written is not tried again.
    drop(out.into_parts());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            anstream::eprintln!("portsweep: standard output was not written to its end: {error}");
            ExitCode::Failed
        }
        _ => ExitCode::Done,
    }
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    anstream::eprintln!("portsweep: {error}");
    ExitCode::Usage
}
