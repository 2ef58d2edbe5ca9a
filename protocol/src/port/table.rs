//! Our own selection of a thousand TCP ports, `data/tcp-ports.tsv`: which ports a scan asks for when none are
//! named, and what the services on them are called. Where the rows come from stands in the file.

use std::sync::LazyLock;

use range_set_blaze::RangeSetBlaze;

use super::PortSet;

/// How many ports are asked for when none are named: the whole selection.
pub const DEFAULT_PORTS: usize = 1_000;

/// How many ports `-F` asks for.
pub const FAST_PORTS: usize = 100;

/// More ports were asked for than the selection has, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are 1 to {DEFAULT_PORTS} selected ports, not {0}: use -p- for all ports")]
pub struct TopPortsError(pub usize);

/// A row of the selection.
struct Row {
    port: u16,
    service: &'static str,
}

static TEXT: &str = include_str!("../../data/tcp-ports.tsv");

/// The rows in the order of the selection. That each line is a row is tested, so none is lost here.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let port = columns.next()?.parse().ok()?;
            let service = columns.next()?;
            Some(Row { port, service })
        })
        .collect()
});

/// The rows by port.
static BY_PORT: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
    let mut rows: Vec<_> = ROWS.iter().collect();
    rows.sort_by_key(|row| row.port);
    rows
});

static LISTED: LazyLock<RangeSetBlaze<u16>> = LazyLock::new(|| ROWS.iter().map(|row| row.port).collect());

/// The lines of the file that are rows.
pub(super) fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The ports of a scan for which none are named.
pub fn default_ports() -> PortSet {
    first(DEFAULT_PORTS)
}

/// The ports of `-F`.
pub fn fast_ports() -> PortSet {
    first(FAST_PORTS)
}

/// The first `count` ports of the selection, 1 to 1,000.
pub fn top_ports(count: usize) -> Result<PortSet, TopPortsError> {
    if (1..=DEFAULT_PORTS).contains(&count) { Ok(first(count)) } else { Err(TopPortsError(count)) }
}

/// What the service on a TCP port is called: its name in IANA's registry, or a short one of ours where it has none.
/// `None` for a port that is not in the selection.
pub fn service_name(port: u16) -> Option<&'static str> {
    let place = BY_PORT.binary_search_by_key(&port, |row| row.port).ok()?;
    Some(BY_PORT[place].service)
}

/// Every port of the selection.
pub(super) fn listed() -> &'static RangeSetBlaze<u16> {
    &LISTED
}

/// The ports whose service matches a name, in which `*` stands for any characters and `?` for one; upper and lower
/// case are the same.
pub(super) fn named(pattern: &str) -> RangeSetBlaze<u16> {
    ROWS.iter().filter(|row| matches(pattern.as_bytes(), row.service.as_bytes())).map(|row| row.port).collect()
}

fn first(count: usize) -> PortSet {
    ROWS.iter().take(count).map(|row| row.port).collect()
}

/// Matches with one place to go back to, so the time is at most pattern × name whatever the pattern.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((star_p, star_n)) => {
                    star = Some((star_p, star_n + 1));
                    p = star_p + 1;
                    n = star_n + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}
