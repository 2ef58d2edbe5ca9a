//! The map of addresses, as it is drawn.

use super::{LINES_MAX, Legend, Line, Links, STATES, Square, interest, legend, shade, told};
use crate::web::words::number;
use coordinator_core::maps::Sum;
use coordinator_core::maps::addresses::{AddressCell, AddressMap};
use ipnet::IpNet;
use std::cmp::Reverse;
use std::ops::Range;

/// A map is so many units wide.
const SIDE: u32 = 640;
/// Up to so many cells a side are labelled.
const LABELLED_MAX: u32 = 8;

/// The map of addresses.
pub struct AddressDrawing {
    /// What it shows.
    pub prefix: String,
    /// How wide it is.
    pub width: u32,
    /// How high it is.
    pub height: u32,
    /// What one cell is, in words.
    pub each: String,
    /// The way here: prefixes from the whole, and where they are; the last is this one.
    pub path: Vec<(String, String)>,
    /// The wholes of other IP versions.
    pub others: Vec<(String, String)>,
    /// Whether each cell is an address.
    pub is_fine: bool,
    /// Its cells.
    pub squares: Vec<Square>,
    /// Addresses by what says most of them.
    pub legend: Legend,
    /// Those of the legend, in the order of the table's columns.
    pub columns: Vec<&'static str>,
    /// The cells that say most.
    pub lines: Vec<Line>,
    /// How many more there are.
    pub more: String,
    /// What was found in it.
    pub results: String,
}

impl AddressDrawing {
    /// Of a map, with the prefixes that lead to it and those from which maps begin.
    #[must_use]
    pub fn new(map: &AddressMap, path: &[IpNet], roots: &[IpNet], links: &Links) -> Self {
        let field = Field::new(map);
        let mut sum = Sum::default();
        map.cells.iter().for_each(|cell| sum += cell.sum);
        let prefix = map.prefix.to_string();
        let link = |cell: &AddressCell| match cell.prefix.prefix_len() == cell.prefix.max_prefix_len() {
            true => links.host(&cell.prefix.addr().to_string()),
            false => links.both(Some(&cell.prefix.to_string())),
        };
        // Of a single address it is told how many of its ports are what.
        let is_fine = map.prefix.prefix_len() + 2 * map.depth == map.prefix.max_prefix_len();
        let counts = |sum: &Sum| if is_fine { sum.targets } else { sum.addresses };
        let squares = map.cells.iter().map(|cell| {
            let (x, y) = field.place(cell.place);
            let (state, level) = shade(&cell.sum, cell.planned);
            let name = shown(cell.prefix);
            Square {
                x,
                y,
                width: field.unit,
                height: field.unit,
                state,
                level,
                says: format!("{name}: {}", told(&counts(&cell.sum), cell.sum.uncounted)),
                link: link(cell),
                label: (1 << map.depth <= LABELLED_MAX).then(|| short(cell.prefix)),
            }
        });
        let legend = legend(&sum.addresses);
        let states: Vec<_> = STATES.iter().filter(|(state, _)| counts(&sum).of(*state) > 0).collect();
        let mut telling: Vec<_> = map.cells.iter().collect();
        telling.sort_by_key(|cell| (Reverse(interest(&counts(&cell.sum))), cell.place));
        let more = telling.len().saturating_sub(LINES_MAX);
        let lines = telling.iter().take(LINES_MAX).map(|cell| Line {
            name: shown(cell.prefix),
            link: link(cell),
            ports: String::new(),
            state: shade(&cell.sum, cell.planned).0,
            counts: states.iter().map(|(state, _)| number(counts(&cell.sum).of(*state))).collect(),
        });
        let step = |prefix: &IpNet, is_whole: bool| {
            let text = prefix.to_string();
            (text.clone(), links.both((!is_whole || roots.first() != Some(prefix)).then_some(&*text)))
        };
        Self {
            width: field.unit * field.columns.len() as u32,
            height: field.unit * field.rows.len() as u32,
            each: each(map),
            path: path.iter().enumerate().map(|(at, prefix)| step(prefix, at == 0)).collect(),
            others: roots.iter().filter(|root| path.first() != Some(root)).map(|root| step(root, true)).collect(),
            is_fine,
            squares: squares.collect(),
            columns: states.iter().map(|(_, name)| *name).collect(),
            lines: lines.collect(),
            legend,
            more: if more > 0 { number(more as u64) } else { String::new() },
            results: links.results(&prefix, None, ""),
            prefix,
        }
    }
}

/// Which part of the curve's square is drawn: a half of it where the other one is empty, and that lying.
struct Field {
    depth: u8,
    unit: u32,
    turned: bool,
    columns: Range<u32>,
    rows: Range<u32>,
}

impl Field {
    fn new(map: &AddressMap) -> Self {
        let across = 1u32 << map.depth;
        let places: Vec<_> = map.cells.iter().map(|cell| fast_hilbert::h2xy::<u32>(cell.place, map.depth)).collect();
        let half = |ends: &dyn Fn(&(u32, u32)) -> u32| {
            let (first, last) =
                (places.iter().map(ends).min().unwrap_or(0), places.iter().map(ends).max().unwrap_or(0));
            match across / 2 {
                0 => 0..across,
                half if last < half => 0..half,
                half if first >= half => half..across,
                _ => 0..across,
            }
        };
        let (columns, rows) = (half(&|(x, _)| *x), half(&|(_, y)| *y));
        let turned = columns.len() < rows.len();
        let (columns, rows) = if turned { (rows, columns) } else { (columns, rows) };
        Self { depth: map.depth, unit: SIDE / columns.len().max(1) as u32, turned, columns, rows }
    }

    /// Where the cell at a place along the curve is drawn.
    fn place(&self, place: u64) -> (u32, u32) {
        let (x, y) = fast_hilbert::h2xy::<u32>(place, self.depth);
        let (x, y) = if self.turned { (y, x) } else { (x, y) };
        (x.saturating_sub(self.columns.start) * self.unit, y.saturating_sub(self.rows.start) * self.unit)
    }
}

/// What a cell of a map is, in words.
fn each(map: &AddressMap) -> String {
    let bits = map.prefix.prefix_len() + 2 * map.depth;
    match map.prefix.max_prefix_len() - bits {
        0 => "one address".to_owned(),
        left @ 1..64 => format!("a /{bits}, {} addresses", number(1 << left)),
        _ => format!("a /{bits}"),
    }
}

/// A network as it is called: of one address, that.
fn shown(prefix: IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

/// As much of it as fits on a cell: of an address its last part.
fn short(prefix: IpNet) -> String {
    let text = shown(prefix);
    let begins = |parts: usize, of: char| text.rmatch_indices(of).nth(parts - 1).map_or(0, |(at, _)| at);
    match prefix {
        IpNet::V4(_) if prefix.prefix_len() > 16 => text[begins(2, '.')..].trim_start_matches('.').to_owned(),
        IpNet::V4(_) => text,
        IpNet::V6(_) => text[begins(1, ':')..].to_owned(),
    }
}
