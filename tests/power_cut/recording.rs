//! What a writer did to its files, as strace saw it.

use crate::writer::{self, Announces};
use anyhow::{Context, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Something that the writer had the system do, or said.
#[derive(Debug, Clone)]
pub enum Event {
    /// A file is made where there is none.
    Make {
        file: PathBuf,
    },
    Write {
        file: PathBuf,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: PathBuf,
        len: u64,
    },
    Remove {
        file: PathBuf,
    },
    /// What was done to a file, or to the names in a directory, is on the disk when this is through.
    Sync {
        file: PathBuf,
    },
    Announce {
        line: String,
    },
}

pub struct Recording {
    pub events: Vec<Event>,
}

impl Recording {
    /// Runs a writer under strace.
    pub fn make(announces: Announces) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let trace = directory.path().join("trace");
        let files = directory.path().join("files");
        std::fs::create_dir(&files)?;
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-xx", "-s", "1000000", "-e"]);
        strace.arg(
            "trace=openat,open,creat,close,write,pwrite64,pwritev,ftruncate,fallocate,fsync,fdatasync,unlink,rename",
        );
        strace.arg("-o").arg(&trace).arg(std::env::current_exe()?);
        strace.env(writer::DIRECTORY, &files).stdin(Stdio::null()).stdout(Stdio::null());
        if announces == Announces::BeforeCommit {
            strace.env(writer::EARLY, "1");
        }
        let status = strace.status().context("run strace")?;
        ensure!(status.success(), "the writer ended with {status}");
        let text = std::fs::read_to_string(&trace)?;
        let mut open = BTreeMap::new();
        let mut events = Vec::new();
        for line in text.lines() {
            events.extend(read(line, &files, &mut open).with_context(|| line.chars().take(200).collect::<String>())?);
        }
        let syncs = events.iter().filter(|event| matches!(event, Event::Sync { .. })).count();
        ensure!(syncs > 200, "{syncs} syncs only: the writer wrote little, or it was not seen");
        Ok(Self { events })
    }

    /// What was announced, with its place.
    pub fn announcements(&self) -> impl Iterator<Item = (usize, &str)> + '_ {
        self.events.iter().enumerate().filter_map(|(at, event)| match event {
            Event::Announce { line } => Some((at, line.as_str())),
            _ => None,
        })
    }
}

/// The event of one line of strace's, if it is one: `call(argument, …) = result`. Paths in events are those below `files`.
fn read(line: &str, files: &Path, open: &mut BTreeMap<u32, PathBuf>) -> anyhow::Result<Option<Event>> {
    let Some((call, rest)) = line.split_once('(') else { return Ok(None) };
    let Some((arguments, result)) = rest.rsplit_once(" = ") else { return Ok(None) };
    let arguments = arguments.trim_end().strip_suffix(')').context("no closing bracket")?;
    let result = result.split(' ').next().unwrap_or_default();
    if result.starts_with('-') || result == "?" {
        return Ok(None);
    }
    let arguments: Vec<_> = arguments.split(", ").collect();
    let argument = |at: usize| arguments.get(at).copied().context("an argument is missing");
    let below = |path: PathBuf| path.strip_prefix(files).ok().map(Path::to_owned);
    let of_file = |open: &BTreeMap<u32, PathBuf>| anyhow::Ok(open.get(&argument(0)?.parse::<u32>()?).cloned());
    Ok(match call {
        "openat" => {
            let Some(file) = below(path(argument(1)?)?) else { return Ok(None) };
            open.insert(result.parse()?, file.clone());
            argument(2)?.contains("O_CREAT").then_some(Event::Make { file })
        }
        "close" => {
            open.remove(&argument(0)?.parse()?);
            None
        }
        "write" if argument(0)? == "1" => {
            let line = String::from_utf8(bytes(argument(1)?)?)?;
            Some(Event::Announce { line: line.trim_end().to_owned() })
        }
        "pwrite64" => match of_file(open)? {
            Some(file) => {
                let bytes = bytes(argument(1)?)?;
                ensure!(bytes.len().to_string() == result, "a write that was cut short");
                Some(Event::Write { file, offset: argument(3)?.parse()?, bytes })
            }
            None => None,
        },
        "ftruncate" => {
            of_file(open)?.map(|file| anyhow::Ok(Event::Truncate { file, len: argument(1)?.parse()? })).transpose()?
        }
        "fsync" | "fdatasync" => of_file(open)?.map(|file| Event::Sync { file }),
        "unlink" => below(path(argument(0)?)?).map(|file| Event::Remove { file }),
        "write" | "pwritev" | "fallocate" if of_file(open)?.is_some() => bail!("a kind of write that is not replayed"),
        "write" | "pwritev" | "fallocate" => None,
        _ => bail!("a call that is not replayed"),
    })
}

fn path(text: &str) -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(String::from_utf8(bytes(text)?)?))
}

/// The bytes of a string as strace prints them with `-xx`.
fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).context("no whole string")?;
    text.split("\\x").skip(1).map(|byte| Ok(u8::from_str_radix(byte, 16)?)).collect()
}
