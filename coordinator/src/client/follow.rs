//! Follows a scan that a coordinator runs: its stream of events, read by one future, and its result when that is wanted.
//!
//! A coordinator that goes away is asked again until it is back; the stream goes on from the last event that was seen. Where that is not
//! possible it begins with the state of the moment, and what was found meanwhile is asked for: nothing is lost, nothing told twice.

use super::connection::{Client, ClientError};
use super::stream::{Event, Events};
use crate::api::shape::{Finding, Progress, Scan};
use crate::cli::{ExitCode, Output};
use crate::report::file::ResultFile;
use crate::scan::{Behind, Counts, Follower, Interrupted, News, Screen, Stdout, Subject, UnderWay};
use anyhow::Context;
use coordinator_core::coordinator::{Found, Sign};
use coordinator_core::store::ScanStatus;
use hyper::Method;
use hyper::header::HeaderName;
use portsweep_agent::queue::{Bounds, Reader, Writer, bounded};
use protocol::probe::{ProbeKind, Target};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader};
use std::time::Duration;

/// What waits for the follower, which may wait for a slow standard output.
const NEWS: Bounds = Bounds { of: "news of a coordinator", items: 64, bytes: 8 << 20 };
/// A follower that takes nothing for so long writes to a pipe that nobody reads.
const NEWS_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Between two tries to reach a coordinator.
const WAITS: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];
/// How many findings are told at once.
const FINDINGS_MAX: usize = 1_024;

/// Follows a scan to its end with its output. `event` is what was seen last of it, for a scan that was just submitted.
///
/// # Errors
/// If the coordinator says no, or the output cannot be written.
pub async fn follow(
    client: Client,
    scan: Scan,
    event: Option<String>,
    output: Output,
    file: Option<ResultFile>,
    screen: Screen,
) -> anyhow::Result<ExitCode> {
    let kinds = [("ping", ProbeKind::Ping), ("tcp", ProbeKind::Tcp)];
    let kinds = kinds.into_iter().filter(|(name, _)| scan.kinds.iter().any(|kind| kind == name));
    let kinds: Vec<_> = kinds.map(|(_, kind)| kind).collect();
    let (id, finds_ports) = (scan.id.clone(), kinds.contains(&ProbeKind::Tcp));
    let subject = Subject { id: id.clone(), targets: scan.targets, kinds, names: scan.names };
    let follower = Follower::new(subject, output, file, screen.clone());
    let (news, coming) = bounded(NEWS);
    let told = follower.is_live().then(BTreeMap::new);
    let mut reading = Reading {
        client: client.clone(),
        id: id.clone(),
        seen: event,
        finds_ports,
        told,
        counts: Counts::default(),
        news,
    };
    let reading = tokio::task::spawn_local(async move { reading.run().await });
    let mut there = There { client, id, coming, screen };
    let code = follower.follow(&mut there).await;
    reading.abort();
    code
}

/// What comes of the stream, or why nothing does any more.
type Coming = Result<News, ClientError>;

/// A scan that a coordinator runs.
struct There {
    client: Client,
    id: String,
    coming: Reader<Coming>,
    screen: Screen,
}

impl There {
    fn results(&self, query: &str) -> String {
        format!("/api/v1/scans/{}/results?{query}", self.id)
    }
}

impl Behind for There {
    fn next(&mut self) -> UnderWay<'_, News> {
        Box::pin(async { Ok(self.coming.next().await.context("the stream of events is read no more")??) })
    }

    fn interrupt(&mut self) -> UnderWay<'_, Interrupted> {
        Box::pin(async { Ok(self.abandon()) })
    }

    fn abandon(&mut self) -> Interrupted {
        let Self { id, client, .. } = self;
        let url = client.url();
        self.screen.say(&format!(
            "no longer following; scan {id} goes on (portsweep scans wait {id} --coordinator={url}, or cancel)"
        ));
        Interrupted::GoesOn
    }

    fn write(&self, file: ResultFile, _: Option<ScanStatus>, _: Duration) -> UnderWay<'static, ()> {
        let (client, path) = (self.client.clone(), self.results("format=json"));
        Box::pin(async move {
            let mut sent = client.file(&path).await?;
            let write = move || file.write(|out| io::copy(&mut sent, out).map(|_| ()));
            Ok(tokio::task::spawn_blocking(write).await??)
        })
    }

    fn report(&self, mut stdout: Stdout, _: ScanStatus, _: Duration) -> UnderWay<'static, io::Result<()>> {
        let (client, path) = (self.client.clone(), stdout.wanted().map(|query| self.results(&query)));
        Box::pin(async move {
            let Some(path) = path else { return Ok(Ok(())) };
            let mut sent = BufReader::new(client.file(&path).await?);
            Ok(tokio::task::spawn_blocking(move || stdout.finish_from(&mut sent)).await?)
        })
    }
}

/// The future that reads the stream.
struct Reading {
    client: Client,
    id: String,
    /// The last event that was seen.
    seen: Option<String>,
    finds_ports: bool,
    /// What was told already, by vantage; `None` where nobody wants findings.
    told: Option<BTreeMap<Option<String>, HashSet<Target>>>,
    counts: Counts,
    news: Writer<Coming>,
}

/// The follower wants no more.
struct Left;

/// Why the stream is not read on.
enum Stop {
    Left,
    Client(ClientError),
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<Left> for Stop {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

#[derive(Deserialize)]
struct Findings {
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Snapshot {
    scans: Vec<Scan>,
}

impl Reading {
    /// Until the scan has ended, the follower left, or the coordinator said no.
    async fn run(&mut self) {
        let mut tries = 0;
        loop {
            let seen_before = self.seen.clone();
            let error = match self.stream().await {
                Ok(()) | Err(Stop::Left) => return,
                Err(Stop::Client(error)) => error,
            };
            if !error.may_pass() {
                let _left = self.tell(Err(error)).await;
                return;
            }
            if self.seen != seen_before {
                tries = 0;
            }
            if tries == 1 {
                let line = format!(
                    "the coordinator at {} does not answer; it is asked again until it does",
                    self.client.url()
                );
                if self.tell(Ok(News::Note(line))).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(WAITS[tries.min(WAITS.len() - 1)]).await;
            tries += 1;
        }
    }

    /// Reads one stream until the scan's end.
    async fn stream(&mut self) -> Result<(), Stop> {
        let last = self.seen.clone().map(|seen| (HeaderName::from_static("last-event-id"), seen));
        let path = format!("/api/v1/events?scan={}", self.id);
        let answer = self.client.ask(Method::GET, &path, last.as_slice(), None).await?;
        let (mut parts, mut events) = (self.client.parts(answer), Events::default());
        while let Some(part) = parts.next().await? {
            for event in events.feed(&part).map_err(|error| self.broken(error))? {
                let ended = self.event(&event).await?;
                self.seen = event.id.or_else(|| self.seen.take());
                if ended {
                    return Ok(());
                }
            }
        }
        Err(Stop::Client(self.broken("the stream ended")))
    }

    fn broken(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Broken { url: self.client.url().to_owned(), source: source.into() }
    }

    /// Takes one event in; true if it was the scan's last.
    async fn event(&mut self, event: &Event) -> Result<bool, Stop> {
        match &*event.kind {
            "progress" => {
                self.progressed(&self.read(event)?);
                self.tell(Ok(self.committed(None, Vec::new(), Vec::new()))).await?;
            }
            "findings" => {
                let findings: Findings = self.read(event)?;
                self.found(&findings.findings).await?;
            }
            "scan" => return self.scan(&self.read(event)?).await,
            "snapshot" => {
                let snapshot: Snapshot = self.read(event)?;
                let Some(scan) = snapshot.scans.into_iter().find(|scan| scan.id == self.id) else { return Ok(false) };
                self.catch_up().await?;
                return self.scan(&scan).await;
            }
            _ => {}
        }
        Ok(false)
    }

    fn read<T: for<'a> Deserialize<'a>>(&self, event: &Event) -> Result<T, ClientError> {
        serde_json::from_str(&event.data).map_err(|error| self.broken(error))
    }

    async fn scan(&mut self, scan: &Scan) -> Result<bool, Stop> {
        if let Some(progress) = &scan.progress {
            self.progressed(progress);
            self.tell(Ok(self.committed(None, Vec::new(), Vec::new()))).await?;
        }
        let Some(status) = ended(scan) else { return Ok(false) };
        self.tell(Ok(News::Finished(status))).await?;
        Ok(true)
    }

    fn progressed(&mut self, progress: &Progress) {
        let found = if self.finds_ports { "open" } else { "up" };
        self.counts = Counts {
            targets: progress.targets,
            undiscovered: progress.undiscovered,
            settled: progress.settled,
            found: progress.states.get(found).copied().unwrap_or(0),
            not_probed: progress.not_probed.values().sum(),
            loss: progress.estimated_loss,
            window: 0,
        };
    }

    /// Asks for all that was found so far, and tells what was not told.
    async fn catch_up(&mut self) -> Result<(), Stop> {
        if self.told.is_none() {
            return Ok(());
        }
        let path = format!("/api/v1/scans/{}/findings", self.id);
        let mut lines = BufReader::new(self.client.file(&path).await?);
        loop {
            let mut found = Vec::<Finding>::new();
            let mut line = String::new();
            while found.len() < FINDINGS_MAX && lines.read_line(&mut line).map_err(|error| self.broken(error))? > 0 {
                found.push(serde_json::from_str(&line).map_err(|error| self.broken(error))?);
                line.clear();
            }
            if found.is_empty() {
                return Ok(());
            }
            self.found(&found).await?;
        }
    }

    /// Tells what was not told. A sign of life is told of once by whoever writes it.
    async fn found(&mut self, findings: &[Finding]) -> Result<(), Left> {
        for seen in findings.chunk_by(|one, next| one.vantage == next.vantage) {
            let Some(told) = &mut self.told else { return Ok(()) };
            let vantage = seen.first().and_then(|finding| finding.vantage.clone());
            let told = told.entry(vantage.clone()).or_default();
            let found = seen.iter().filter_map(Finding::found).filter(|found| told.insert(found.target)).collect();
            let signs = seen.iter().filter_map(Finding::sign).collect();
            self.tell(Ok(self.committed(vantage, found, signs))).await?;
        }
        Ok(())
    }

    fn committed(&self, vantage: Option<String>, findings: Vec<Found>, signs: Vec<Sign>) -> News {
        News::Committed { findings, signs, vantage, counts: self.counts }
    }

    async fn tell(&self, coming: Coming) -> Result<(), Left> {
        let beside = match &coming {
            Ok(News::Committed { findings, signs, .. }) => {
                size_of_val(findings.as_slice()) + size_of_val(signs.as_slice())
            }
            _ => 0,
        };
        self.news.push(coming, size_of::<Coming>() + beside, NEWS_TIMEOUT).await.map_err(|_| Left)
    }
}

/// How a scan ended; `None` while it has not.
pub(super) fn ended(scan: &Scan) -> Option<ScanStatus> {
    let states = [ScanStatus::Partial, ScanStatus::Interrupted, ScanStatus::Done, ScanStatus::Cancelled];
    states.into_iter().find(|status| status.as_str() == scan.status)
}
