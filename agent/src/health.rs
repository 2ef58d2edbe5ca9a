//! Whether the agent of a state directory is well, asked from outside: `portsweep-agent health`, for whoever watches over a container.
//!
//! The running agent answers on a socket in its state directory, in one line: so the answer comes from the process itself, and one that
//! hangs gives none. The directory is its owner's alone, and so is the socket.

use crate::identity::StateDirectory;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

const SOCKET: &str = "agent.sock";
/// What a connected agent says; anything else is why it is not well.
const CONNECTED: &str = "connected to its coordinator";
const AWAY: &str = "not connected to its coordinator";
/// An agent that does not answer within this hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 10;

/// Why an agent is not well.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// None runs.
    #[error("no agent that has joined runs on the state in {}", .0.display())]
    NotRunning(PathBuf),
    /// It cannot be asked.
    #[error("cannot ask the agent of {}", path.display())]
    Socket {
        /// Its state directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("the agent of {} does not answer within {} s", .0.display(), ANSWER_TIMEOUT.as_secs())]
    Hangs(PathBuf),
    /// It runs, and is not connected.
    #[error("the agent runs, and is {0}")]
    Unwell(String),
}

/// The socket by way of the open directory: a socket's path may have 107 bytes only, a state directory's more.
fn short_path(directory: &File) -> PathBuf {
    Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(SOCKET)
}

/// Answers until it is dropped; a system that has no such socket is told once. The caller holds the directory's lock, so a socket that is
/// there is one of a process that died.
pub async fn answer(state: StateDirectory, open: watch::Receiver<usize>) {
    let bound = File::open(state.path()).and_then(|directory| {
        let path = short_path(&directory);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(path),
        }
    });
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%error, "nobody can ask how this agent is (health)");
            return;
        }
    };
    loop {
        // One after the other: whoever asks reads one line, and waits no longer than this for it.
        let Ok((mut asking, _)) = listener.accept().await else {
            tokio::time::sleep(ANSWER_TIMEOUT).await;
            continue;
        };
        let line = if *open.borrow() > 0 { CONNECTED } else { AWAY };
        // Whoever left needs no answer.
        let _told = timeout(ANSWER_TIMEOUT, asking.write_all(line.as_bytes())).await;
    }
}

/// Asks the agent of a state directory; what it says if it is well.
///
/// # Errors
/// If it is not.
pub async fn ask(state: &StateDirectory) -> Result<String, HealthError> {
    let path = || state.path().to_owned();
    let connect = async {
        let directory = File::open(state.path())?;
        let mut asked = UnixStream::connect(short_path(&directory)).await?;
        let mut said = String::new();
        (&mut asked).take(ANSWER_BYTES_MAX).read_to_string(&mut said).await?;
        Ok::<_, io::Error>(said)
    };
    match timeout(ANSWER_TIMEOUT, connect).await {
        Err(_) => Err(HealthError::Hangs(path())),
        Ok(Err(error)) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
            Err(HealthError::NotRunning(path()))
        }
        Ok(Err(source)) => Err(HealthError::Socket { path: path(), source }),
        Ok(Ok(said)) if said == CONNECTED => Ok(said),
        Ok(Ok(said)) => Err(HealthError::Unwell(said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_says_how_it_is_and_one_that_is_not_there_is_told() {
        // Longer than a socket's path may be.
        let directory =
            std::env::temp_dir().join(format!("portsweep-health-{}-{}", std::process::id(), "x".repeat(120)));
        fs::create_dir_all(&directory).unwrap();
        let state = StateDirectory::find(Some(&directory)).unwrap();
        actix::System::new().block_on(async {
            assert!(matches!(ask(&state).await, Err(HealthError::NotRunning(_))));
            let (connections, open) = watch::channel(0);
            let answering = tokio::task::spawn_local(answer(state.clone(), open.clone()));
            // It has bound once it was run for the first time.
            tokio::task::yield_now().await;
            assert!(matches!(ask(&state).await, Err(HealthError::Unwell(said)) if said == AWAY));
            connections.send_replace(1);
            assert_eq!(ask(&state).await.unwrap(), CONNECTED);
            answering.abort();
            assert!(answering.await.unwrap_err().is_cancelled());
            assert!(matches!(ask(&state).await, Err(HealthError::NotRunning(_))), "its socket is still there, unheard");
            let answering = tokio::task::spawn_local(answer(state.clone(), open));
            tokio::task::yield_now().await;
            assert_eq!(ask(&state).await.unwrap(), CONNECTED, "one that starts again takes its place");
            answering.abort();
        });
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn an_agent_that_hangs_is_told_from_one_that_is_not_there() {
        let directory = std::env::temp_dir().join(format!("portsweep-health-hang-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let state = StateDirectory::find(Some(&directory)).unwrap();
        let _hanging = std::os::unix::net::UnixListener::bind(directory.join(SOCKET)).unwrap();
        let asked = actix::System::new().block_on(async {
            tokio::time::pause();
            ask(&state).await
        });
        assert!(matches!(asked, Err(HealthError::Hangs(_))), "{asked:?}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
