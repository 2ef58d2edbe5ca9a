//! Curves and bars as SVG, drawn here: they need no script, and no style of their own.

use super::words::per_second;
use std::fmt::Write;
use std::time::Duration;

/// The size of a curve in units of its view box; the page scales it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// A curve of a rate over time.
pub struct Curve {
    /// The line, as an SVG path.
    pub line: String,
    /// What is under it.
    pub area: String,
    /// The highest rate, in words.
    pub most: String,
    /// How long ago it begins, in words.
    pub begins: String,
    /// The whole, for who cannot see it.
    pub says: String,
}

impl Curve {
    /// Of the mean rates in runs of `each`; `None` where there are too few to show anything.
    #[must_use]
    pub fn new(each: Duration, rates: &[f64]) -> Option<Self> {
        if rates.len() < 2 {
            return None;
        }
        let most = rates.iter().copied().fold(0.0, f64::max);
        let x = |at: usize| at as f64 * WIDTH / (rates.len() - 1) as f64;
        let y = |rate: f64| HEIGHT - rate / most.max(f64::MIN_POSITIVE) * (HEIGHT - 8.0);
        let mut line = String::new();
        for (at, rate) in rates.iter().enumerate() {
            // Writing to a string does not fail.
            let _ = write!(line, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x(at), y(*rate));
        }
        let area = format!("{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z");
        let span = super::words::rough(each * u32::try_from(rates.len()).unwrap_or(u32::MAX));
        let (most, last) = (per_second(most), per_second(rates.last().copied().unwrap_or_default()));
        let says = format!("Targets per second over the last {span}: at most {most}, {last} at the end");
        Some(Self { line, area, most, begins: format!("{span} ago"), says })
    }
}

/// A part of a bar: a state's name, how many, and where it lies, in thousandths of the bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The state.
    pub state: String,
    /// How many targets are in it.
    pub count: u64,
    /// Where it begins.
    pub x: u64,
    /// How wide it is; at least 2 where there is one.
    pub width: u64,
}

/// The parts of a bar of `whole`, in this order; what is left is not settled.
#[must_use]
pub fn bar<'a>(parts: impl Iterator<Item = (&'a str, u64)>, whole: u64) -> Vec<Segment> {
    let mut x = 0;
    let drawn = parts.filter(|(_, count)| *count > 0).map(|(state, count)| {
        let width =
            u64::try_from(u128::from(count) * 1_000 / u128::from(whole.max(1))).unwrap_or(1_000).clamp(2, 1_000);
        let segment = Segment { state: state.to_owned(), count, x, width: width.min(1_000_u64.saturating_sub(x)) };
        x = (x + width).min(1_000);
        segment
    });
    drawn.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_its_box_and_needs_two_points() {
        assert!(Curve::new(Duration::from_secs(1), &[5.0]).is_none());
        let curve = Curve::new(Duration::from_secs(2), &[0.0, 50.0, 100.0]).expect("a curve");
        assert_eq!(curve.line, "M0.0 120.0L300.0 64.0L600.0 8.0");
        assert_eq!((&*curve.most, &*curve.begins), ("100/s", "6 s ago"));
        let flat = Curve::new(Duration::from_secs(1), &[0.0, 0.0]).expect("a curve");
        assert_eq!(flat.line, "M0.0 120.0L600.0 120.0");
    }

    #[test]
    fn a_bar_shows_the_rare_and_never_overflows() {
        let bar = bar([("open", 1), ("closed", 500_000), ("filtered", 0), ("up", 499_999)].into_iter(), 1_000_000);
        assert_eq!(
            bar.iter().map(|it| (&*it.state, it.x, it.width)).collect::<Vec<_>>(),
            [("open", 0, 2), ("closed", 2, 500), ("up", 502, 498)]
        );
    }
}
