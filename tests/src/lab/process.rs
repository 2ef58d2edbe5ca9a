//! Programs that run inside a host of the lab: started with a known environment, waited for with a
//! timeout, ended when their handle goes.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};

use super::host::Host;
use super::os::{self, Usage, Waited};

/// What is kept of a program's output, in bytes: a program that writes without end must not take
/// the test's memory with it.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// A program to run inside a host. It gets an empty environment but for `PATH`, `HOME`, `TERM` and
/// `PORTSWEEP_STATE`, so that nothing of the tester's own configuration reaches it, and nothing of
/// what it keeps is the tester's: unless a state directory is named, it has one of its own, which goes with the program.
#[derive(Debug)]
pub struct Command<'host> {
    host: &'host Host,
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
    user: Option<u32>,
    input: Vec<u8>,
}

impl<'host> Command<'host> {
    pub(super) fn new(host: &'host Host, program: &Path) -> Self {
        Self {
            host,
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            directory: PathBuf::from("/"),
            user: None,
            input: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// The working directory, and `HOME`. `/` if not said.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Runs as this user and group, with no further group and no capability.
    #[must_use]
    pub fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self
    }

    /// What the program reads from its standard input; nothing if not said.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Starts the program.
    pub fn start(self) -> anyhow::Result<Process> {
        let line = self.line();
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.directory)
            .env("TERM", "dumb")
            .envs(self.env)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        let state = match command.get_envs().any(|(name, _)| name == "PORTSWEEP_STATE") {
            true => None,
            false => Some(tempfile::TempDir::new().context("failed to make a state directory")?),
        };
        if let Some(state) = &state {
            std::os::unix::fs::chown(state.path(), self.user, self.user)?;
            command.env("PORTSWEEP_STATE", state.path());
        }
        // A process starts in the namespace of the thread that starts it.
        let mut child = (self.host.namespace())
            .enter(|| command.spawn())
            .with_context(|| format!("failed to start {line} in host {}", self.host.name()))?;

        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let input = self.input;
        let writer = thread::spawn(move || {
            // A program may end without having read everything: no concern of the writer.
            stdin.map(|mut stdin| stdin.write_all(&input))
        });
        drop(writer);
        Ok(Process { line, child, reaped: false, stdout: collect(stdout), stderr: collect(stderr), _state: state })
    }

    /// Starts the program and waits for its end. An end after `timeout` is an error, one with any
    /// exit code is not.
    pub fn run(self, timeout: Duration) -> anyhow::Result<Finished> {
        self.start()?.wait(timeout)
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.program.as_os_str()).chain(self.args.iter().map(|a| &**a));
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// A program that runs. It is killed when this goes.
#[derive(Debug)]
pub struct Process {
    line: String,
    child: Child,
    reaped: bool,
    stdout: JoinHandle<io::Result<Vec<u8>>>,
    stderr: JoinHandle<io::Result<Vec<u8>>>,
    /// Goes after the program.
    _state: Option<tempfile::TempDir>,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal (`libc::SIGINT`, ...).
    pub fn signal(&self, signal: i32) -> anyhow::Result<()> {
        os::signal(&self.child, signal).with_context(|| format!("failed to send signal {signal} to {}", self.line))
    }

    /// Waits for its end; kills it after `timeout`, which is an error that shows what it wrote.
    pub fn wait(mut self, timeout: Duration) -> anyhow::Result<Finished> {
        let waited = os::wait(&self.child, Some(timeout))?;
        if let Waited::Ended(status, usage) = waited {
            self.reaped = true;
            return self.finish(status, usage);
        }
        os::signal(&self.child, libc::SIGKILL)?;
        if let Waited::Ended(status, usage) = os::wait(&self.child, None)? {
            self.reaped = true;
            let line = self.line.clone();
            let end = self.finish(status, usage)?;
            bail!("still ran after {timeout:?}: {line}\n{}", end.transcript());
        }
        bail!("does not end: {}", self.line)
    }

    fn finish(&mut self, status: std::process::ExitStatus, usage: Usage) -> anyhow::Result<Finished> {
        // Swapped for threads that are done: `self` has a `Drop`, so its fields cannot be moved out.
        let idle = || thread::spawn(|| Ok(Vec::new()));
        Ok(Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: text(std::mem::replace(&mut self.stdout, idle())).context("stdout")?,
            stderr: text(std::mem::replace(&mut self.stderr, idle())).context("stderr")?,
            usage,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            // Errors say that it has ended already; then the wait takes it off the table.
            let _ = os::signal(&self.child, libc::SIGKILL);
            let _ = os::wait(&self.child, None);
        }
    }
}

/// A program that has ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// What it used.
    pub usage: Usage,
}

impl Finished {
    /// The lines of standard output, sorted: for output whose order is not promised.
    #[must_use]
    pub fn lines_sorted(&self) -> Vec<&str> {
        let mut lines: Vec<_> = self.stdout.lines().collect();
        lines.sort_unstable();
        lines
    }

    /// An error with everything that the program wrote, unless it ended with exit code `code`.
    pub fn expect_code(self, code: i32) -> anyhow::Result<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        bail!("exit code {code} was expected\n{}", self.transcript())
    }

    /// What the program did, for a person to read.
    #[must_use]
    pub fn transcript(&self) -> String {
        let Self { code, signal, stdout, stderr, .. } = self;
        format!("exit code {code:?}, signal {signal:?}\n-- stdout\n{stdout}\n-- stderr\n{stderr}")
    }
}

/// Reads a stream to its end, beside the program; what exceeds the bound is read and dropped, so
/// that the program never waits for a reader.
fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = stream {
            stream.by_ref().take(OUTPUT_BYTES_MAX).read_to_end(&mut kept)?;
            io::copy(&mut stream, &mut io::sink())?;
        }
        Ok(kept)
    })
}

fn text(reader: JoinHandle<io::Result<Vec<u8>>>) -> anyhow::Result<String> {
    match reader.join() {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes?).into_owned()),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
