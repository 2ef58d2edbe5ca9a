//! The command line as a client of a coordinator's API, and nothing else.

mod commands;
mod connection;
pub mod follow;
mod secret;
mod stream;

pub use commands::carry_out;
pub use connection::{Client, ClientError};

use crate::api::lists::TargetList;
use crate::api::shape::Submitted;
use crate::cli::{At, ExitCode, Lines, Login, LoginRequest, RemoteRequest, Write};
use crate::report::file::ResultFile;
use crate::scan::Screen;
use actix::System;
use anyhow::Context as _;
use hyper::Method;
use serde::de::IgnoredAny;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

/// A coordinator that does not say within this whether it takes scans hangs.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// Has a coordinator run a scan, and follows it with its output; errors are told on stderr in one line.
#[must_use]
pub fn scan(request: &RemoteRequest, screen: &Screen) -> ExitCode {
    System::new().block_on(submit(request, screen.clone())).unwrap_or_else(|(code, error)| {
        anstream::eprintln!("portsweep: {error:#}");
        code
    })
}

/// Asks whether a coordinator takes scans; says why not on stderr.
#[must_use]
pub fn health(at: &At) -> ExitCode {
    let client = Client::new(at);
    let asked = System::new().block_on(async {
        tokio::time::timeout(HEALTH_TIMEOUT, client.json::<IgnoredAny>(Method::GET, "/readyz", None)).await
    });
    let line = match asked {
        Ok(Ok(_)) => {
            anstream::println!("portsweep: the coordinator at {} takes scans", client.url());
            return ExitCode::Done;
        }
        Ok(Err(error)) => format!("{:#}", anyhow::Error::from(error)),
        Err(_) => {
            format!("the coordinator at {} does not answer within {} s", client.url(), HEALTH_TIMEOUT.as_secs())
        }
    };
    anstream::eprintln!("portsweep: {line}");
    ExitCode::Failed
}

/// Keeps a login, once its coordinator has answered to it; says why not on stderr.
#[must_use]
pub fn log_in(request: &LoginRequest) -> ExitCode {
    let Login { url, pin, token } = request.login.clone();
    let client = Client::new(&At { url, token: Some(token), pin, is_own: false, state: request.state.clone() });
    let asked = System::new().block_on(client.json::<IgnoredAny>(Method::GET, "/api/v1/scans?status=running", None));
    let kept = asked.map_err(anyhow::Error::from).and_then(|_| {
        let (directory, path) = (request.state.directory(), request.path());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.with_context(|| format!("cannot make {}", directory.display()))?;
        secret::write(&path, &request.login.to_string()).with_context(|| format!("cannot write {}", path.display()))
    });
    match kept {
        Ok(()) => {
            anstream::eprintln!("portsweep: --coordinator is {} from now on", client.url());
            ExitCode::Done
        }
        Err(error) => {
            anstream::eprintln!("portsweep: {error:#}");
            ExitCode::Failed
        }
    }
}

/// An error with the exit code that it leads to.
type Failed = (ExitCode, anyhow::Error);

fn failed(error: impl Into<anyhow::Error>) -> Failed {
    (ExitCode::Failed, error.into())
}

async fn submit(request: &RemoteRequest, screen: Screen) -> Result<ExitCode, Failed> {
    let file = match &request.output.write {
        Some(Write::File(path)) => Some(ResultFile::check(path).map_err(|error| (ExitCode::Usage, error.into()))?),
        Some(Write::Stdout) | None => None,
    };
    let client = Client::new(&request.at);
    let refused = |error: ClientError| (error.exit(), anyhow::Error::from(error));
    let mut spec = request.spec.clone();
    if !request.listed.is_empty() {
        let list = client.upload::<TargetList>("/api/v1/target-lists", Lines::new(request.listed.clone()));
        spec.target_lists.push(list.await.map_err(refused)?.id);
    }
    let body = serde_json::to_vec(&spec).map_err(failed)?;
    let submitted: Submitted = client.json(Method::POST, "/api/v1/scans", Some(body)).await.map_err(refused)?;
    for notice in &submitted.notices {
        anstream::eprintln!("portsweep: {notice}");
    }
    if request.detach {
        anstream::println!("{}", submitted.scan.id);
        return Ok(ExitCode::Done);
    }
    follow::follow(client, submitted.scan, Some(submitted.event), request.output.clone(), file, screen)
        .await
        .map_err(failed)
}
