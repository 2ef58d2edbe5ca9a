//! Text that somebody typed, as an error message shows it: short, on one line, harmless to a terminal.

use std::fmt;

/// The most characters of the text that are shown, after escaping. Enough to find the place in a command line.
const SHOWN_CHARS: usize = 60;

/// A piece of input inside an error: at most 60 characters of it, control and other invisible characters escaped.
/// Shown in double quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted {
    shown: String,
    cut: bool,
}

impl Quoted {
    /// Keeps what will be shown of `text`.
    pub fn new(text: &str) -> Self {
        let mut shown = String::new();
        let mut chars_left = SHOWN_CHARS;
        for char in text.chars() {
            let length = if char == '\'' { 1 } else { char.escape_debug().count() };
            if length > chars_left {
                return Self { shown, cut: true };
            }
            chars_left -= length;
            if char == '\'' {
                shown.push(char);
            } else {
                shown.extend(char.escape_debug());
            }
        }
        Self { shown, cut: false }
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dots = if self.cut { "..." } else { "" };
        write!(f, "\"{}{dots}\"", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::Quoted;

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        assert_eq!(Quoted::new("it's 192.0.2.1").to_string(), "\"it's 192.0.2.1\"");
        assert_eq!(Quoted::new("a\x1b]0;x\x07\n").to_string(), "\"a\\u{1b}]0;x\\u{7}\\n\"");
        assert_eq!(Quoted::new("\u{202e}\u{9b}\"").to_string(), "\"\\u{202e}\\u{9b}\\\"\"");
        let long = Quoted::new(&"x".repeat(1 << 20)).to_string();
        assert_eq!(long, format!("\"{}...\"", "x".repeat(60)));
        assert_eq!(Quoted::new(&"\0".repeat(99)).to_string().len(), 60 + 5);
    }
}
