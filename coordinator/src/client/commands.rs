//! What the command line asks a coordinator beside a scan: its scans, its agents, its tokens.

use super::connection::{Client, ClientError};
use super::follow;
use crate::api::agents::{MadeJoinToken, OwnAgent};
use crate::api::change::{Exclusion, Setting};
use crate::api::shape::{Changed, Scan, Scans};
use crate::cli::{ExitCode, Output, RemoteAction, RemoteCommand};
use crate::scan::Screen;
use crate::scans::list;
use actix::System;
use hyper::Method;
use protocol::quote::Quoted;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// The coordinator cannot be asked, or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No scan is called so.
    #[error("the coordinator has no scan {0}: portsweep scans --coordinator lists them")]
    Unknown(Quoted),
    /// Several are.
    #[error("several scans have an id that begins with {0}: write more of it")]
    Ambiguous(Quoted),
    /// Standard output.
    #[error("standard output was not written to its end")]
    Io(#[from] io::Error),
    /// A file for a token.
    #[error("cannot write the token to {}", path.display())]
    Secret {
        /// Where it was to go.
        path: PathBuf,
        /// Why it did not.
        #[source]
        source: io::Error,
    },
    /// The scan that is followed.
    #[error(transparent)]
    Follow(#[from] anyhow::Error),
}

impl CommandError {
    fn exit(&self) -> ExitCode {
        match self {
            Self::Client(error) => error.exit(),
            Self::Unknown(_) | Self::Ambiguous(_) => ExitCode::Usage,
            Self::Io(_) | Self::Secret { .. } | Self::Follow(_) => ExitCode::Failed,
        }
    }
}

/// Does what is asked for; errors are told on stderr in one line. `width` is that of the terminal that standard output is, if it is one.
#[must_use]
pub fn carry_out(command: &RemoteCommand, screen: &Screen, width: Option<usize>) -> ExitCode {
    let client = Client::new(&command.at);
    match System::new().block_on(run(&client, &command.action, screen, width)) {
        Ok(code) => code,
        // A reader that left has seen enough.
        Err(CommandError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::Done,
        Err(error) => {
            let exit = error.exit();
            anstream::eprintln!("portsweep: {:#}", anyhow::Error::from(error));
            exit
        }
    }
}

async fn run(
    client: &Client,
    action: &RemoteAction,
    screen: &Screen,
    width: Option<usize>,
) -> Result<ExitCode, CommandError> {
    match action {
        RemoteAction::List => list::write_shown(&mut out(), &scans(client).await?, width)?,
        RemoteAction::Show(id) => {
            let scan = find(client, id).await?;
            let mut out = out();
            writeln!(out, "Command: {}", scan.command)?;
            writeln!(out, "Started: {}", list::minute(scan.started))?;
            if !scan.waits_for.is_empty() {
                writeln!(out, "Not in force yet at: {}", scan.waits_for.join(", "))?;
            }
            writeln!(out)?;
            copy(client, &format!("/api/v1/scans/{}/results?format=table", scan.id), &mut out).await?;
        }
        RemoteAction::Export(id, form) => {
            let scan = find(client, id).await?;
            copy(client, &format!("/api/v1/scans/{}/results?format={}", scan.id, form.as_str()), &mut out()).await?;
        }
        RemoteAction::Wait(id) => {
            let scan = find(client, id).await?;
            return Ok(follow::follow(client.clone(), scan, None, Output::silent(), None, screen.clone()).await?);
        }
        RemoteAction::Set(id, setting) => change(client, id, Method::PATCH, "", Some(setting)).await?,
        RemoteAction::Exclude(id, specs) => {
            let exclusion = Exclusion { exclude: specs.clone() };
            change(client, id, Method::POST, "/exclude", Some(&exclusion)).await?;
        }
        RemoteAction::Pause(id) => change::<Setting>(client, id, Method::POST, "/pause", None).await?,
        RemoteAction::Resume(id) => change::<Setting>(client, id, Method::POST, "/resume", None).await?,
        RemoteAction::Cancel(id) => change::<Setting>(client, id, Method::POST, "/cancel", None).await?,
        RemoteAction::Remove(ids) => {
            for id in ids {
                let scan = find(client, id).await?;
                client.ask(Method::DELETE, &format!("/api/v1/scans/{}", scan.id), &[], None).await?;
            }
        }
        RemoteAction::Agents => agents(client).await?,
        RemoteAction::Agent(name) => {
            let agent: serde_json::Value = client.json(Method::GET, &of_agent(name, ""), None).await?;
            print(&agent)?;
        }
        RemoteAction::Label(name, labels) => {
            let labels = labels.iter().map(|(key, value)| (key.clone(), value.clone()));
            let body = serde_json::json!({ "labels": labels.collect::<BTreeMap<_, _>>() });
            let agent: serde_json::Value =
                client.json(Method::PATCH, &of_agent(name, ""), Some(body.to_string().into_bytes())).await?;
            print(&agent["labels"])?;
        }
        RemoteAction::Drain(name, drained) => {
            let method = if *drained { Method::POST } else { Method::DELETE };
            let _agent: serde_json::Value = client.json(method, &of_agent(name, "/drain"), None).await?;
        }
        RemoteAction::Revoke(name) => {
            let _agent: serde_json::Value = client.json(Method::POST, &of_agent(name, "/revoke"), None).await?;
        }
        RemoteAction::JoinToken { ttl_s, write } => {
            let mut places: Vec<_> = write.iter().map(|path| Some(path.as_path())).collect();
            if places.is_empty() {
                places.push(None);
            }
            for place in places {
                let body = serde_json::json!({ "ttl_s": ttl_s }).to_string().into_bytes();
                let made: MadeJoinToken = client.json(Method::POST, "/api/v1/join-tokens", Some(body)).await?;
                give(&made.token, place)?;
            }
        }
        RemoteAction::ApiToken { name, role, write } => {
            let body = serde_json::json!({ "name": name, "role": role }).to_string().into_bytes();
            let made: crate::api::tokens::MadeToken = client.json(Method::POST, "/api/v1/tokens", Some(body)).await?;
            give(&made.login, write.as_deref())?;
        }
    }
    Ok(ExitCode::Done)
}

fn out() -> impl Write {
    anstream::stdout()
}

/// Gives a secret to whoever asked: on standard output, or whole or not at all in a file that is its owner's alone.
fn give(secret: &str, place: Option<&Path>) -> Result<(), CommandError> {
    let Some(path) = place else { return Ok(writeln!(out(), "{secret}")?) };
    super::secret::write(path, secret).map_err(|source| CommandError::Secret { path: path.to_owned(), source })
}

fn print(value: &serde_json::Value) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    Ok(writeln!(out(), "{text}")?)
}

/// A part of an agent's path. A name has nothing that is more than itself in a path; what else is typed names no agent.
fn of_agent(name: &str, rest: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name: String = name.bytes().map(|byte| if plain(byte) { char::from(byte) } else { '_' }).collect();
    format!("/api/v1/agents/{name}{rest}")
}

async fn copy(client: &Client, path: &str, out: &mut dyn Write) -> Result<(), CommandError> {
    let mut sent = client.file(path).await?;
    io::copy(&mut sent, out)?;
    Ok(out.flush()?)
}

async fn scans(client: &Client) -> Result<Vec<Scan>, ClientError> {
    Ok(client.json::<Scans>(Method::GET, "/api/v1/scans", None).await?.scans)
}

/// The one scan whose id begins with `prefix`, dashes or not.
async fn find(client: &Client, prefix: &str) -> Result<Scan, CommandError> {
    let digits = |text: &str| text.replace('-', "").to_ascii_lowercase();
    let wanted = digits(prefix);
    let fits = |scan: &Scan| !wanted.is_empty() && digits(&scan.id).starts_with(&wanted);
    let mut fitting = scans(client).await?.into_iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(scan), None) => Ok(scan),
        (Some(_), Some(_)) => Err(CommandError::Ambiguous(Quoted::new(prefix))),
        (None, _) => Err(CommandError::Unknown(Quoted::new(prefix))),
    }
}

/// Has what holds for a scan changed, and says where that is not in force yet.
async fn change<T: serde::Serialize>(
    client: &Client,
    id: &str,
    method: Method,
    what: &str,
    body: Option<&T>,
) -> Result<(), CommandError> {
    let scan = find(client, id).await?;
    let body = body.map(serde_json::to_vec).transpose().map_err(io::Error::from)?;
    let changed: Changed = client.json(method, &format!("/api/v1/scans/{}{what}", scan.id), body).await?;
    if !changed.in_force {
        let names = changed.waits_for.join(", ");
        anstream::eprintln!("portsweep: not in force yet at {names}: until they acknowledge it, or their right ends");
    }
    Ok(())
}

/// An agent, as far as the list shows it.
#[derive(Deserialize)]
struct Agent {
    name: String,
    vantage: String,
    standing: serde_json::Value,
    connected: bool,
    drained: bool,
    #[serde(default)]
    draining: bool,
    #[serde(default)]
    rests_until: Option<i64>,
    software: String,
    labels: BTreeMap<String, String>,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Agents {
    agents: Vec<Agent>,
    own: OwnAgent,
}

async fn agents(client: &Client) -> Result<(), CommandError> {
    let Agents { agents, own } = client.json(Method::GET, "/api/v1/agents", None).await?;
    let mut rows = vec![["NAME", "STATE", "VANTAGE", "VERSION", "LABELS", "ALLOWS"].map(str::to_owned)];
    // It is there as long as its coordinator answers.
    let allow = own.allow.join(",");
    rows.push([own.name, "here".to_owned(), own.vantage, own.software, String::new(), allow]);
    for agent in agents {
        let standing = agent.standing.as_str().unwrap_or("unknown").to_owned();
        let state = match (&*standing, agent.connected) {
            ("good", true) if agent.draining => "draining".to_owned(),
            ("good", true) if agent.drained => "drained".to_owned(),
            ("good", true) if agent.rests_until.is_some() => "resting".to_owned(),
            ("good", true) => "connected".to_owned(),
            ("good", false) => "away".to_owned(),
            _ => standing,
        };
        let labels: Vec<_> = agent.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.push([agent.name, state, agent.vantage, agent.software, labels.join(","), agent.allow.join(",")]);
    }
    let widths: Vec<_> = (0..6).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut out = out();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
