//! What a test looks at: a coordinator on loopback of a namespace of its own, hosts that it can scan, and a browser beside it.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use portsweep_tests::lab::{self, Host, Need, Process};
use tempfile::TempDir;

use crate::browser::Browser;

/// What the tests need of the machine.
pub(crate) const NEEDS: &[Need] = &[Need::Hosts, Need::Program("chromium"), Need::Program("chromedriver")];

/// How long a process may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the driver may take to start: what a machine reads from its disk for the first time takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often something is looked for: each look starts a program, so this is bounded in time too.
const LOOKS_MAX: usize = 20_000;
const DRIVER_PORT: u16 = 9_515;

/// Where the coordinator's page is.
pub(crate) const PAGE: &str = "http://127.0.0.1:7420";

/// A coordinator and what it can scan.
pub(crate) struct Site {
    pub(crate) host: Arc<Host>,
    /// Held, so that it answers.
    _target: Host,
    directory: TempDir,
    serving: Option<Process>,
}

/// A test: what it does with a browser that is signed in.
pub(crate) type Story = for<'a> fn(&'a mut Site, &'a Browser) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// Runs a story with a coordinator and a browser, and ends both.
pub(crate) fn tell(story: Story) -> anyhow::Result<()> {
    let mut site = Site::new()?;
    let driver = lab::program("chromedriver").context("chromedriver is gone")?;
    let port = format!("--port={DRIVER_PORT}");
    let driving = site
        .host
        .command(&driver)
        .args([&port])
        .directory(site.directory.path())
        .env("HOME", site.directory.path())
        .start()?;
    let profile = site.directory.path().join("profile");
    let told = site.within(async |site| {
        until_listening(DRIVER_PORT).await?;
        let browser = Browser::start(DRIVER_PORT, &profile).await?;
        let told = async {
            browser.go(&site.door()?).await?;
            browser.until("document.querySelector('nav')").await?;
            story(site, &browser).await?;
            browser.nothing_was_refused().await
        };
        let told = told.await;
        // Whatever became of the story: who waits for the driver waits for the browser too.
        browser.quit().await?;
        told
    });
    driving.signal(libc::SIGTERM)?;
    driving.wait(END_TIMEOUT)?;
    let ended = site.end();
    told.and(ended)
}

async fn until_listening(port: u16) -> anyhow::Result<()> {
    let listening = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
    };
    tokio::time::timeout(START_TIMEOUT, listening).await.with_context(|| format!("nothing listens on {port}"))
}

impl Site {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let host = Host::new("coordinator")?;
        let mut target = Host::new("target")?;
        let addresses: Vec<_> = (1..=40).map(|host| format!("198.51.100.{host}/24")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        lab::wire((&host, &["198.51.100.254/24"]), (&target, &addresses))?;
        for port in [22, 80, 443] {
            target.listen(&format!("198.51.100.7:{port}"))?;
        }
        target.listen("198.51.100.9:22")?;
        let mut site = Self { host: Arc::new(host), _target: target, directory: TempDir::new()?, serving: None };
        site.serve()?;
        Ok(site)
    }

    /// A command of portsweep where the coordinator is.
    pub(crate) fn portsweep(&self, words: &[&str]) -> anyhow::Result<lab::Command<'_>> {
        let command = self.host.command(lab::bin()?).args(words).directory(self.directory.path());
        Ok(command.env("PORTSWEEP_STATE", self.state()))
    }

    fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    /// Where files of the test can be.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the coordinator, and waits until it takes scans.
    pub(crate) fn serve(&mut self) -> anyhow::Result<()> {
        let serving = self.portsweep(&["serve", "--allow", "198.51.100.0/24"])?.start()?;
        for _ in 0..LOOKS_MAX {
            if self.portsweep(&["health"])?.run(END_TIMEOUT)?.code == Some(0) {
                self.serving = Some(serving);
                return Ok(());
            }
        }
        serving.signal(libc::SIGKILL)?;
        bail!("serve is not ready: {}", serving.wait(END_TIMEOUT)?.transcript())
    }

    /// Kills the coordinator, as a power cut would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let serving = self.serving.take().context("it runs")?;
        serving.signal(libc::SIGKILL)?;
        serving.wait(END_TIMEOUT)?;
        Ok(())
    }

    /// Tells the coordinator to end, and waits until it did.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        let Some(serving) = self.serving.take() else { return Ok(()) };
        serving.signal(libc::SIGTERM)?;
        let ended = serving.wait(END_TIMEOUT)?;
        ensure!(ended.code == Some(0), "{}", ended.transcript());
        Ok(())
    }

    /// The address by which a browser signs in: with a token, as the key is on the terminal of whoever started the coordinator.
    fn door(&self) -> anyhow::Result<String> {
        Ok(format!("{PAGE}/?key={}", self.key()?))
    }

    /// What opens a session.
    pub(crate) fn key(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.state().join("local.token"))?.trim().to_owned())
    }

    /// Does something with sockets in the coordinator's namespace.
    fn within(&mut self, action: impl AsyncFnOnce(&mut Self) -> anyhow::Result<()> + Send) -> anyhow::Result<()> {
        let host = Arc::clone(&self.host);
        host.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(action(self)))
        })?
    }
}
