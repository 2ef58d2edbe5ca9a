//! The commands beside a scan: `doctor`, `completions`, `man`. Only the first word of a command line can be one.

use super::args::{self, Args};
use super::{CliError, Invocation};
use clap::builder::styling::Styles;
use clap::{ArgAction, CommandFactory, Parser};
use clap_complete::Shell;
use std::ffi::OsString;
use std::io;

/// The words of a command that is no scan, sorted.
#[derive(Debug, Parser)]
#[command(
    name = "portsweep",
    term_width = 80,
    styles = Styles::plain(),
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true
)]
enum Command {
    /// Say what bears on scanning from this machine, with the line that mends it
    Doctor {
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
    /// Print a script with which a shell completes command lines
    Completions {
        /// bash, zsh, fish, elvish or powershell
        #[arg(value_name = "SHELL", value_parser = shell)]
        shell: Shell,
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
    /// Print the manual page, for `man -l -`
    Man {
        /// Print this help
        #[arg(short, long, action = ArgAction::Help)]
        help: Option<bool>,
    },
}

/// Whether a first word is one of these commands.
pub(super) fn is_command(word: &OsString) -> bool {
    ["doctor", "completions", "man"].iter().any(|name| word == name)
}

/// Finds out what a command line that begins with a command asks for.
pub(super) fn parse(words: Vec<OsString>) -> Result<Invocation, CliError> {
    let words = std::iter::once("portsweep".into()).chain(words);
    let command = match Command::try_parse_from(words) {
        Ok(command) => command,
        Err(error) => return args::refused(&error).map(Invocation::Print),
    };
    match command {
        Command::Doctor { .. } => Ok(Invocation::Doctor),
        Command::Completions { shell, .. } => Ok(Invocation::Print(completions(shell))),
        Command::Man { .. } => manual().map(Invocation::Print).map_err(|error| CliError::Syntax(error.to_string())),
    }
}

/// Everything that can be typed, as one command of clap's.
fn whole() -> clap::Command {
    let scan = Args::command().name("scan").about("Scan from here; the same without this word");
    Args::command().subcommand(scan).subcommands(Command::command().get_subcommands().cloned())
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "portsweep", &mut script);
    super::words::single_dashes(&String::from_utf8_lossy(&script))
}

fn manual() -> io::Result<String> {
    let mut page = Vec::new();
    let command = whole().disable_help_subcommand(true);
    clap_mangen::Man::new(command).render(&mut page)?;
    // In troff a dash that is to be copied is written with a backslash.
    let page = String::from_utf8_lossy(&page).replace("\\-", "-");
    Ok(super::words::single_dashes(&page).replace('-', "\\-"))
}

fn shell(text: &str) -> Result<Shell, String> {
    text.parse().map_err(|_| "write bash, zsh, fish, elvish or powershell".to_owned())
}
