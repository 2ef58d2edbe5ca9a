//! Target lists as files have them (`-iL`, `--excludefile`): entries between spaces, tabs and line ends, `#` to the
//! end of the line a comment.
//!
//! The parser is fed bytes as they come and keeps one word, the ranges and the names, so its memory does not grow
//! with the length of the file. Whoever has the file reads it; there is no I/O here.

use std::collections::BTreeSet;

use super::{AddressError, TargetItem, WORD_BYTES_MAX, parse_into};
use crate::range_set::AddressSet;

/// The most separate ranges that a list may come to: about 200 MB of memory at worst (IPv6, none adjacent).
pub const LIST_RANGES_MAX: usize = 4 << 20;

/// The most distinct names that a list may have. Each is resolved before a scan starts.
pub const LIST_NAMES_MAX: usize = 65_536;

/// The mark that some programs put at the start of UTF-8 files.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A target list that cannot be read: where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ListError {
    /// The line, counted from 1.
    pub line: u64,
    /// What is wrong there.
    pub problem: ListProblem,
}

/// What is wrong with a target list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    /// An entry is no target.
    #[error("{0}")]
    Entry(AddressError),
    /// Too many bytes without a space or a line end.
    #[error("more than {WORD_BYTES_MAX} bytes without a space or a line end: put one entry on a line")]
    WordTooLong,
    /// UTF-16, as its first bytes say.
    #[error("the file is UTF-16: save it as UTF-8")]
    Utf16,
    /// A NUL byte.
    #[error("the file has NUL bytes, so it is UTF-16 or no text: save it as UTF-8")]
    Nul,
    /// A word that is not UTF-8.
    #[error("a word is not UTF-8: save the file as UTF-8")]
    NotUtf8,
    /// More separate ranges than are kept.
    #[error("the list comes to more than {LIST_RANGES_MAX} separate ranges: write networks, or split it")]
    TooManyRanges,
    /// More names than are kept.
    #[error("the list has more than {LIST_NAMES_MAX} names: split it")]
    TooManyNames,
}

/// Reads a target list piece by piece: [`feed`](Self::feed) it all, then [`finish`](Self::finish). After an error
/// there is nothing more to feed.
#[derive(Debug, Clone)]
pub struct TargetListParser {
    line: u64,
    /// Whether no byte has come yet.
    at_start: bool,
    /// The word so far.
    word: Vec<u8>,
    /// Whether the word began at the first byte of the list.
    word_is_first: bool,
    in_comment: bool,
    addresses: AddressSet,
    names: BTreeSet<(String, Option<u8>)>,
    ranges_max: usize,
    names_max: usize,
}

impl Default for TargetListParser {
    fn default() -> Self {
        Self::with_bounds(LIST_RANGES_MAX, LIST_NAMES_MAX)
    }
}

impl TargetListParser {
    /// A parser that has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn with_bounds(ranges_max: usize, names_max: usize) -> Self {
        Self {
            line: 1,
            at_start: true,
            word: Vec::new(),
            word_is_first: true,
            in_comment: false,
            addresses: AddressSet::new(),
            names: BTreeSet::new(),
            ranges_max,
            names_max,
        }
    }

    /// Reads the next bytes of the list, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ListError> {
        // No UTF-8 has these bytes; the first of UTF-16 with its mark is one of them.
        if self.at_start && matches!(bytes.first(), Some(0xfe | 0xff)) {
            return Err(self.fail(ListProblem::Utf16));
        }
        self.at_start &= bytes.is_empty();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| ends_word(byte)) {
            self.continue_word(&rest[..end])?;
            self.end_word()?;
            match rest[end] {
                0 => return Err(self.fail(ListProblem::Nul)),
                b'#' => self.in_comment = true,
                b'\r' => self.in_comment = false,
                b'\n' => {
                    self.in_comment = false;
                    self.line += 1;
                }
                _ => {}
            }
            rest = &rest[end + 1..];
        }
        self.continue_word(rest)
    }

    /// Ends the list. The result is empty if it had no entry; it has at most one `Addresses`, which comes first,
    /// and each name once.
    pub fn finish(mut self) -> Result<Vec<TargetItem>, ListError> {
        self.end_word()?;
        let names = self.names.into_iter();
        let names = names.map(|(name, prefix)| TargetItem::Name { name, prefix });
        let addresses = (!self.addresses.is_empty()).then_some(TargetItem::Addresses(self.addresses));
        Ok(addresses.into_iter().chain(names).collect())
    }

    /// Keeps what may be a part of a word only.
    fn continue_word(&mut self, part: &[u8]) -> Result<(), ListError> {
        if self.in_comment {
            return Ok(());
        }
        if self.word.len() + part.len() > WORD_BYTES_MAX {
            return Err(self.fail(ListProblem::WordTooLong));
        }
        self.word.extend_from_slice(part);
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), ListError> {
        let first = std::mem::take(&mut self.word_is_first);
        if self.word.is_empty() {
            return Ok(());
        }
        let mut bytes = self.word.as_slice();
        if first {
            bytes = bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes);
        }
        let Ok(word) = std::str::from_utf8(bytes) else {
            return Err(self.fail(ListProblem::NotUtf8));
        };
        if !word.is_empty() {
            let names = &mut self.names;
            parse_into(word, &mut self.addresses, |name, prefix| {
                names.insert((name, prefix));
            })
            .map_err(|error| ListError { line: self.line, problem: ListProblem::Entry(error) })?;
        }
        self.word.clear();
        if self.addresses.range_count() > self.ranges_max {
            return Err(self.fail(ListProblem::TooManyRanges));
        }
        if self.names.len() > self.names_max {
            return Err(self.fail(ListProblem::TooManyNames));
        }
        Ok(())
    }

    fn fail(&self, problem: ListProblem) -> ListError {
        ListError { line: self.line, problem }
    }
}

/// Whether a byte ends a word. NUL does so that it is seen, in comments too.
fn ends_word(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | b' ' | b'#')
}

/// Reads a whole target list.
pub fn parse_target_list(bytes: &[u8]) -> Result<Vec<TargetItem>, ListError> {
    let mut parser = TargetListParser::new();
    parser.feed(bytes)?;
    parser.finish()
}
