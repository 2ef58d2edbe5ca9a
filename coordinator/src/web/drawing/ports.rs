//! The map of hosts by ports, as it is drawn.

use super::{LINES_MAX, Label, Legend, Line, Links, STATES, Square, interest, legend, shade, told};
use crate::api::maps::run;
use crate::web::words::number;
use coordinator_core::maps::Sum;
use coordinator_core::maps::ports::{Column, PortMap, Row};
use ipnet::IpNet;
use protocol::probe::State;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::ops::Range;

/// The cells of a map are so many units wide together, and so many high, as far as they can be seen then.
const WIDTH: u32 = 560;
const HEIGHT: u32 = 460;
/// Labels stand so far apart at least.
const LABEL: u32 = 12;
/// Where the cells begin, left and top.
const LEFT: u32 = 104;
const TOP: u32 = 42;
/// What stands apart of the ports: `ping`.
const APART: u32 = 6;

/// The map of ports.
pub struct PortDrawing {
    /// How wide it is.
    pub width: u32,
    /// How high it is.
    pub height: u32,
    /// Where the cells begin.
    pub left: u32,
    /// Likewise.
    pub top: u32,
    /// The addresses that it shows.
    pub addresses: String,
    /// Whether there are others.
    pub is_part: bool,
    /// Where all addresses are, and where all ports are.
    pub all: (String, Option<String>),
    /// The ports that it shows.
    pub ports: String,
    /// Rows that are labelled.
    pub rows: Vec<Label>,
    /// Columns likewise.
    pub columns: Vec<Label>,
    /// What is drawn: neighbours in a row that say the same, if that is silence, are one.
    pub squares: Vec<Square>,
    /// Targets by state.
    pub legend: Legend,
    /// Those of the legend, in the order of the table's columns.
    pub states: Vec<&'static str>,
    /// The cells that say most.
    pub lines: Vec<Line>,
    /// How many more there are.
    pub more: String,
    /// Whether it goes down to single addresses and ports.
    pub exact: bool,
    /// What was found in it.
    pub results: String,
}

/// A cell of a map of ports with its place.
struct Placed<'a> {
    row: usize,
    column: usize,
    sum: &'a Sum,
}

impl PortDrawing {
    /// Of a map.
    #[must_use]
    pub fn new(map: &PortMap, links: &Links) -> Self {
        let place = Places::new(map);
        let width = map.columns.len().max(1);
        let mut sum = Sum::default();
        map.cells.iter().for_each(|cell| sum += *cell);
        let cells: Vec<_> = (map.cells.iter().enumerate())
            .filter(|(_, sum)| sum.targets.sum() + sum.uncounted > 0)
            .map(|(at, sum)| Placed { row: at / width, column: at % width, sum })
            .collect();
        let states: Vec<_> = STATES.iter().filter(|(state, _)| sum.targets.of(*state) > 0).collect();
        let mut telling: Vec<_> = cells.iter().collect();
        telling.sort_by_key(|cell| (Reverse(interest(&cell.sum.targets)), cell.row, cell.column));
        let more = telling.len().saturating_sub(LINES_MAX);
        let lines = telling.iter().take(LINES_MAX).map(|cell| Line {
            name: addresses(&map.rows[cell.row]),
            link: place.link(map, links, cell.row, cell.column..cell.column + 1),
            ports: ports(&map.columns[cell.column..=cell.column]).unwrap_or_else(|| "ping".to_owned()),
            state: shade(cell.sum, capacity(cell.sum)).0,
            counts: states.iter().map(|(state, _)| number(cell.sum.targets.of(*state))).collect(),
        });
        let (first, last) = (map.rows.first(), map.rows.last());
        let all = first.zip(last).map(|(first, last)| between(first.first, last.last)).unwrap_or_default();
        let shown_ports = ports(&map.columns);
        let is_part = links.address.is_some() || links.prefix.is_some();
        Self {
            width: place.right(map.columns.len()) + 1,
            height: TOP + place.height * map.rows.len() as u32 + 1,
            left: LEFT,
            top: TOP,
            is_part,
            all: (
                links.to(None, None, links.port.as_deref(), links.vantage.as_deref()),
                links.port.as_ref().map(|_| links.part(links.address.as_deref(), None)),
            ),
            rows: place.rows(map, links),
            columns: place.columns(map, links),
            squares: place.squares(map, links, &cells),
            legend: legend(&sum.targets),
            states: states.iter().map(|(_, name)| *name).collect(),
            lines: lines.collect(),
            more: if more > 0 { number(more as u64) } else { String::new() },
            exact: map.exact,
            results: links.results(&all, links.port.as_deref(), ""),
            ports: shown_ports.unwrap_or_else(|| "ping".to_owned()),
            addresses: all,
        }
    }
}

/// How the cells of a map of ports lie.
struct Places {
    cell: u32,
    height: u32,
    has_ping: bool,
}

impl Places {
    fn new(map: &PortMap) -> Self {
        let (columns, rows) = (map.columns.len().max(1) as u32, map.rows.len().max(1) as u32);
        Self {
            cell: (WIDTH / columns).clamp(8, 40),
            height: (HEIGHT / rows).clamp(8, 24),
            has_ping: map.columns.first() == Some(&Column::Ping),
        }
    }

    fn x(&self, column: usize) -> u32 {
        LEFT + column as u32 * self.cell + if self.has_ping && column > 0 { APART } else { 0 }
    }

    fn right(&self, columns: usize) -> u32 {
        self.x(columns.saturating_sub(1)) + self.cell
    }

    fn y(&self, row: usize) -> u32 {
        TOP + row as u32 * self.height
    }

    /// Where cells of a row lead: in, at one address to the host; where there is nothing finer, to the results.
    fn link(&self, map: &PortMap, links: &Links, row: usize, columns: Range<usize>) -> String {
        let of_row = &map.rows[row];
        let address = addresses(of_row);
        let asked = ports(&map.columns[columns.clone()]);
        if of_row.hosts == 1 {
            return links.host(&address);
        }
        let is_whole = map.rows.len() == 1 && columns.len() + usize::from(self.has_ping) >= map.columns.len();
        match (is_whole && !map.exact, asked) {
            (true, asked) => links.results(&address, asked.as_deref(), "open,closed,filtered,up,down,not-probed"),
            (false, asked) => links.part(Some(&address), asked.as_deref().or(links.port.as_deref())),
        }
    }

    fn rows(&self, map: &PortMap, links: &Links) -> Vec<Label> {
        let step = LABEL.div_ceil(self.height) as usize;
        let labels = map.rows.iter().enumerate().step_by(step).map(|(at, row)| Label {
            at: self.y(at) + self.height / 2,
            text: cut(&row.first.to_string()),
            says: format!("{}: {} addresses", addresses(row), number(row.hosts)),
            link: match row.hosts {
                1 => links.host(&row.first.to_string()),
                _ => links.part(Some(&addresses(row)), links.port.as_deref()),
            },
        });
        labels.collect()
    }

    fn columns(&self, map: &PortMap, links: &Links) -> Vec<Label> {
        let step = LABEL.div_ceil(self.cell) as usize;
        let labels = map.columns.iter().enumerate().step_by(step).map(|(at, column)| {
            let (text, says, link) = match column {
                Column::Ping => {
                    ("ping".to_owned(), "ping".to_owned(), links.part(links.address.as_deref(), links.port.as_deref()))
                }
                Column::Ports { first, last, count } => {
                    let ports = run(first, last);
                    let says = format!("{}: {} ports", ports, number((*count).into()));
                    (first.to_string(), says, links.part(links.address.as_deref(), Some(&ports)))
                }
            };
            Label { at: self.x(at) + self.cell / 2, text, says, link }
        });
        labels.collect()
    }

    fn squares(&self, map: &PortMap, links: &Links, cells: &[Placed<'_>]) -> Vec<Square> {
        let mut squares: Vec<(Square, Range<usize>, usize, Sum)> = Vec::new();
        for cell in cells {
            let (state, level) = shade(cell.sum, capacity(cell.sum));
            let is_quiet = cell.sum.says().is_none_or(is_quiet);
            let is_port = map.columns[cell.column] != Column::Ping;
            if let Some((square, columns, row, sum)) = squares.last_mut()
                && is_quiet
                && is_port
                && (square.state, square.level, *row, columns.end) == (state, level, cell.row, cell.column)
                && map.columns[columns.start] != Column::Ping
            {
                square.width += self.cell;
                columns.end += 1;
                *sum += *cell.sum;
                continue;
            }
            let square = Square {
                x: self.x(cell.column),
                y: self.y(cell.row),
                width: self.cell,
                height: self.height,
                state,
                level,
                says: String::new(),
                link: String::new(),
                label: None,
            };
            squares.push((square, cell.column..cell.column + 1, cell.row, *cell.sum));
        }
        let finished = squares.into_iter().map(|(square, columns, row, sum)| {
            let asked =
                ports(&map.columns[columns.clone()]).map_or_else(|| "ping".to_owned(), |ports| format!("port {ports}"));
            let says = format!("{}, {asked}: {}", addresses(&map.rows[row]), told(&sum.targets, sum.uncounted));
            Square { says, link: self.link(map, links, row, columns), ..square }
        });
        finished.collect()
    }
}

fn addresses(row: &Row) -> String {
    between(row.first, row.last)
}

/// Addresses as they are called: a network where they are one, else `A-B`.
fn between(first: IpAddr, last: IpAddr) -> String {
    let common = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits()).leading_zeros(),
        _ => 0,
    };
    let net = u8::try_from(common).ok().and_then(|bits| IpNet::new(first, bits).ok());
    match net.filter(|net| first != last && (net.network(), net.broadcast()) == (first, last)) {
        Some(net) => net.to_string(),
        None => run(&first, &last),
    }
}

/// The first and the last of the ports of these columns; `None` where there are none.
fn ports(columns: &[Column]) -> Option<String> {
    let mut ends = columns.iter().filter_map(|column| match column {
        Column::Ping => None,
        Column::Ports { first, last, .. } => Some((first, last)),
    });
    let (first, last) = ends.next()?;
    Some(run(first, ends.next_back().map_or(last, |(_, last)| last)))
}

/// A label that is too long for its place.
fn cut(text: &str) -> String {
    const FITS: usize = 18;
    if text.len() <= FITS { text.to_owned() } else { format!("…{}", &text[text.len() - FITS + 1..]) }
}

/// Whether a state is what most of a network is.
const fn is_quiet(state: State) -> bool {
    matches!(state, State::NotProbed | State::Down | State::Filtered)
}

fn capacity(sum: &Sum) -> u64 {
    sum.targets.sum() + sum.uncounted
}
