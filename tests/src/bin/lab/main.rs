//! `lab`: what the docker-compose labs of `deploy/labs` are made of beside portsweep itself. It is the program of
//! a lab's targets, and it compares a scan's result with a lab's truth, target by target.
//!
//! ```text
//! lab host [--open PORTS] [--silent PORTS]                             be a target
//! lab ready                                                            whether the target beside this is ready
//! lab received                                                         what the target beside this received
//! lab arguments < expect.toml                                          the scan that the truth is about, a word a line
//! lab untouched < expect.toml                                          services that must receive nothing
//! lab check EXIT < (expect.toml, a NUL, the result)                    what differs; 1 if anything does
//! ```
//!
//! In `expect.toml` NET stands for the lab's own /16, as 10.213, and NET6 for its IPv6 prefix: `LAB_NET`, `LAB_NET6`.

mod check;
mod expect;
mod found;
mod host;

use expect::Expect;
use std::io::Read;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let words = std::env::args().skip(1).collect::<Vec<_>>();
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    match words[..] {
        ["host", ref flags @ ..] => host::run(&host::Behaviour::parse(flags)?),
        ["ready"] => host::received().map(|_| ExitCode::SUCCESS),
        ["received"] => {
            print(&host::received()?);
            Ok(ExitCode::SUCCESS)
        }
        ["arguments"] => {
            expected()?.scan.iter().for_each(|word| print(word));
            Ok(ExitCode::SUCCESS)
        }
        ["untouched"] => {
            expected()?.untouched.iter().for_each(|service| print(service));
            Ok(ExitCode::SUCCESS)
        }
        ["check", exit] => {
            let text = input()?;
            let (expected, result) =
                text.split_once('\0').ok_or_else(|| anyhow::anyhow!("no NUL between the truth and the result"))?;
            let differences = check::differences(&expect::read(expected)?, exit.parse()?, result)?;
            differences.told.iter().for_each(|line| print(line));
            print(&differences.summary());
            Ok(if differences.told.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ => anyhow::bail!("usage: lab host|ready|received|arguments|untouched|check"),
    }
}

fn input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

fn expected() -> anyhow::Result<Expect> {
    expect::read(&input()?)
}

#[expect(clippy::print_stdout, reason = "this is what it was asked for")]
fn print(line: &str) {
    println!("{line}");
}
