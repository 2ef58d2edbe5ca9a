//! The bar on stderr, and everything that is written while it stands there.

use super::tally::Tally;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Write};

/// Bar and what goes past it. Cheap to clone; all clones are one screen. Without a bar, nothing is in anyone's way.
#[derive(Clone, Debug)]
pub struct Screen {
    bar: ProgressBar,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Without a bar.
    #[must_use]
    pub fn new() -> Self {
        Self { bar: ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()) }
    }

    /// Begins the bar, if stderr is a terminal and `wanted`; says whether there is one.
    pub(super) fn begin(&self, wanted: bool) -> bool {
        if !wanted || !io::stderr().is_terminal() {
            return false;
        }
        // Without colours, so that `NO_COLOR` has nothing to take away.
        if let Ok(style) = ProgressStyle::with_template("[{wide_bar}] {msg}") {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        true
    }

    pub(super) fn show(&self, tally: &Tally) {
        let counts = tally.counts();
        self.bar.set_length(counts.targets);
        self.bar.set_position(counts.settled);
        self.bar.set_message(tally.beside_bar());
        self.bar.tick();
    }

    /// Takes the bar away for good.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes while the bar is out of the way.
    pub(super) fn past<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// A line on stderr, for a person.
    pub(crate) fn say(&self, line: &str) {
        self.past(|| anstream::eprintln!("portsweep: {line}"));
    }
}

/// Log lines go past the bar, each whole.
impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.past(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
