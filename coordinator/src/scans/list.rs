//! The list of scans: a line each, newest first. On a terminal ids are as short as they can be told apart, and lines as wide as it.

use super::ScansError;
use crate::api::shape::Scan;
use crate::report::quantity::grouped;
use crate::state::{Kept, Seen, StateError};
use jiff::Timestamp;
use protocol::plan::Plan;
use std::io::{self, Write};

/// Shorter ids are not read as ids.
const ID_CHARS_MIN: usize = 8;
/// Below this a command says nothing.
const COMMAND_CHARS_MIN: usize = 16;

/// What the list says of one scan.
struct Line {
    id: String,
    status: String,
    started: String,
    targets: String,
    command: String,
}

pub(super) fn write(out: &mut dyn Write, kept: &[Kept], width: Option<usize>) -> Result<(), ScansError> {
    let ids: Vec<_> = kept.iter().map(|kept| kept.id().to_string()).collect();
    let id_chars = width.map_or(36, |_| shortest(&ids));
    let lines: Vec<_> = kept.iter().zip(&ids).map(|(kept, id)| line(&id[..id_chars], kept.look())).collect();
    Ok(write_lines(out, &lines, width)?)
}

/// As [`write`], of scans that a coordinator has.
pub(crate) fn write_shown(out: &mut dyn Write, scans: &[Scan], width: Option<usize>) -> io::Result<()> {
    let ids: Vec<_> = scans.iter().map(|scan| scan.id.clone()).collect();
    let id_chars = width.map_or(36, |_| shortest(&ids));
    let line = |scan: &Scan| Line {
        id: scan.id.chars().take(id_chars).collect(),
        status: scan.status.clone(),
        started: minute(scan.started),
        targets: grouped(scan.targets.into()),
        command: scan.command.clone(),
    };
    write_lines(out, &scans.iter().map(line).collect::<Vec<_>>(), width)
}

fn line(id: &str, seen: Result<Option<Seen>, StateError>) -> Line {
    let id = id.to_owned();
    let broken = |status: &str, command: String| Line {
        id: id.clone(),
        status: status.to_owned(),
        started: "-".to_owned(),
        targets: "-".to_owned(),
        command,
    };
    match seen {
        Ok(Some(seen)) => Line {
            id,
            status: seen.status().as_str().to_owned(),
            started: minute(seen.request.started),
            targets: Plan::try_from(seen.record.plan).map_or("-".to_owned(), |plan| grouped(plan.len().into())),
            command: seen.request.command,
        },
        Ok(None) => broken("empty", "(it never began)".to_owned()),
        Err(error) => broken("unreadable", format!("({:#})", anyhow::Error::from(error))),
    }
}

/// A moment for people, in UTC.
pub(crate) fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    // 2026-01-02T03:04:05.678Z
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {}", time.get(..5).unwrap_or(time))
}

/// How many characters of ids tell them apart.
fn shortest(ids: &[String]) -> usize {
    let mut sorted: Vec<_> = ids.iter().collect();
    sorted.sort();
    let shared = |pair: &[&String]| pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
    let longest = sorted.windows(2).map(shared).max().unwrap_or(0);
    // Not so that it ends with the dash.
    let chars = (longest + 1).max(ID_CHARS_MIN);
    if matches!(chars, 9 | 14 | 19 | 24) { chars + 1 } else { chars.min(36) }
}

fn write_lines(out: &mut dyn Write, lines: &[Line], width: Option<usize>) -> io::Result<()> {
    if lines.is_empty() {
        return if width.is_some() { writeln!(out, "No scans are kept here.") } else { Ok(()) };
    }
    let widest = |head: &str, of: &dyn Fn(&Line) -> usize| lines.iter().map(of).max().unwrap_or(0).max(head.len());
    let id_width = widest("ID", &|line| line.id.len());
    let status_width = widest("STATUS", &|line| line.status.len());
    let started_width = widest("STARTED (UTC)", &|line| line.started.len());
    let targets_width = widest("TARGETS", &|line| line.targets.len());
    let before = id_width + status_width + started_width + targets_width + 8;
    let room = width.map(|width| width.saturating_sub(before).max(COMMAND_CHARS_MIN));
    let mut row = |id: &str, status: &str, started: &str, targets: &str, command: &str| {
        let command = cut(command, room);
        writeln!(
            out,
            "{id:id_width$}  {status:status_width$}  {started:started_width$}  {targets:>targets_width$}  {command}"
        )
    };
    row("ID", "STATUS", "STARTED (UTC)", "TARGETS", "COMMAND")?;
    lines.iter().try_for_each(|line| row(&line.id, &line.status, &line.started, &line.targets, &line.command))
}

/// A command on one line, of at most `room` characters; what is no text is escaped.
fn cut(command: &str, room: Option<usize>) -> String {
    let shown: String = command
        .chars()
        .flat_map(|char| if char.is_control() { char.escape_default().collect::<Vec<_>>() } else { vec![char] })
        .collect();
    match room {
        Some(room) if shown.chars().count() > room => {
            let kept: String = shown.chars().take(room.saturating_sub(3)).collect();
            format!("{kept}...")
        }
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[Line], width: Option<usize>) -> String {
        let mut text = Vec::new();
        write_lines(&mut text, lines, width).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn sample(id: &str, command: &str) -> Line {
        Line {
            id: id.into(),
            status: "interrupted".into(),
            started: minute("2026-01-02T03:04:05.678Z".parse().unwrap()),
            targets: "65,535".into(),
            command: command.into(),
        }
    }

    #[test]
    fn lines_are_as_wide_as_the_terminal_and_whole_in_a_pipe() {
        let long = format!("portsweep -p- {}", "192.0.2.1 ".repeat(30));
        let lines = [sample("01a20cfa", "portsweep -p- 192.0.2.7"), sample("01a20cfb", &long)];
        assert_eq!(
            text(&lines[..1], Some(80)),
            "ID        STATUS       STARTED (UTC)     TARGETS  COMMAND\n\
             01a20cfa  interrupted  2026-01-02 03:04   65,535  portsweep -p- 192.0.2.7\n"
        );
        for width in [80, 140] {
            assert!(text(&lines, Some(width)).lines().all(|line| line.chars().count() <= width));
        }
        assert!(text(&lines, None).contains(&long));
        assert_eq!(text(&[], Some(80)), "No scans are kept here.\n");
        assert_eq!(text(&[], None), "");
    }

    #[test]
    fn ids_are_as_short_as_they_can_be_told_apart() {
        let ids = |ids: &[&str]| shortest(&ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>());
        assert_eq!(ids(&["01a20cfa-62f3-705c-a3d4-453b26c8dc3b"]), 8);
        assert_eq!(ids(&["01a20cfa-62f3-705c-a3d4-453b26c8dc3b", "01a20cfa-62f4-705c-a3d4-453b26c8dc3b"]), 13);
        assert_eq!(ids(&["01a20cfa-62f3-705c-a3d4-453b26c8dc3b", "01a20cfa-72f4-705c-a3d4-453b26c8dc3b"]), 10);
        assert_eq!(ids(&[]), 8);
    }

    #[test]
    fn a_command_cannot_write_to_the_terminal() {
        assert_eq!(cut("portsweep '\u{1b}[2J\n'", None), "portsweep '\\u{1b}[2J\\n'");
        assert_eq!(cut("portsweep 192.0.2.1", Some(12)), "portsweep...");
    }
}
