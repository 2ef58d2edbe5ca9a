//! What a target list says as text again, piece by piece: how it is uploaded to a coordinator, and kept there.

use bytes::Bytes;
use protocol::address::TargetItem;
use std::net::IpAddr;
use std::vec;

/// About how long a piece is.
const PIECE_BYTES: usize = 64 << 10;

/// The pieces: an entry a line, ranges in order, then names. Together they are the list, whoever reads them.
#[derive(Debug)]
pub struct Lines {
    ranges: vec::IntoIter<(IpAddr, IpAddr)>,
    names: vec::IntoIter<(String, Option<u8>)>,
}

impl Lines {
    /// Of a list that was read.
    #[must_use]
    pub fn new(items: Vec<TargetItem>) -> Self {
        let (mut ranges, mut names) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                TargetItem::Addresses(addresses) => ranges.extend(addresses.ranges()),
                TargetItem::Name { name, prefix } => names.push((name, prefix)),
            }
        }
        Self { ranges: ranges.into_iter(), names: names.into_iter() }
    }

    fn line(&mut self) -> Option<String> {
        match self.ranges.next() {
            Some((first, last)) if first == last => Some(format!("{first}\n")),
            Some((first, last)) => Some(format!("{first}-{last}\n")),
            None => self.names.next().map(|(name, prefix)| match prefix {
                None => format!("{name}\n"),
                Some(prefix) => format!("{name}/{prefix}\n"),
            }),
        }
    }
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES {
            let Some(line) = self.line() else { break };
            piece.push_str(&line);
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::address::TargetListParser;

    #[test]
    fn what_was_read_is_read_again_whatever_pieces_it_comes_in() {
        let mut text = String::from("www.example/30 2001:db8::/64 b.example\n192.0.2.0/30 192.0.2.9 # some\n");
        text.extend((0..20_000_u32).map(|host| format!("{}\n", std::net::Ipv4Addr::from(0x0a00_0000 + 2 * host))));
        let read = |pieces: &mut dyn Iterator<Item = Bytes>| {
            let mut parser = TargetListParser::new();
            let count = pieces.map(|piece| parser.feed(&piece).unwrap()).count();
            (parser.finish().unwrap(), count)
        };
        let (items, _) = read(&mut std::iter::once(Bytes::from(text)));
        let (again, pieces) = read(&mut Lines::new(items.clone()));
        assert_eq!(again, items);
        assert!(pieces > 2, "{pieces}");
        assert_eq!(Lines::new(Vec::new()).count(), 0);
    }
}
