//! Server-sent events, taken apart as they come (WHATWG HTML, section 9.2.6). Pure.

/// The longest event: a commit finds 32,768 open ports at most.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What it is.
    pub(super) kind: String,
    /// Its id, as the stream has it.
    pub(super) id: Option<String>,
    /// What it says.
    pub(super) data: String,
}

/// A stream that is longer between two blank lines than an event can be.
#[derive(Debug, thiserror::Error)]
#[error("an event is longer than {EVENT_BYTES_MAX} bytes")]
pub(super) struct TooLong;

/// Takes a stream apart.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Vec<u8>,
    event: Event,
}

impl Events {
    /// Takes in what came, and gives the events that are whole with it.
    pub(super) fn feed(&mut self, part: &[u8]) -> Result<Vec<Event>, TooLong> {
        self.waiting.extend_from_slice(part);
        let mut whole = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.waiting[begin..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.waiting[begin..begin + length]).into_owned();
            begin += length + 1;
            whole.extend(self.line(line.strip_suffix('\r').unwrap_or(&line)));
        }
        self.waiting.drain(..begin);
        if self.waiting.len() + self.event.data.len() > EVENT_BYTES_MAX { Err(TooLong) } else { Ok(whole) }
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return (!event.data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // A comment, the time to wait before coming back, or what we do not know.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        let text =
            b":\n\nevent: progress\nid: a-1\ndata: {}\n\nevent: scan\r\nid: a-2\r\ndata: 1\r\ndata: 2\r\n\r\ndata: x";
        let event =
            |kind: &str, id: &str, data: &str| Event { kind: kind.into(), id: Some(id.into()), data: data.into() };
        let expected = [event("progress", "a-1", "{}"), event("scan", "a-2", "1\n2")];
        for size in 1..text.len() {
            let mut events = Events::default();
            let found: Vec<_> = text.chunks(size).flat_map(|part| events.feed(part).expect("short events")).collect();
            assert_eq!(found, expected, "in parts of {size} bytes");
        }
    }

    #[test]
    fn a_stream_without_end_is_given_up() {
        let mut events = Events::default();
        let parts = std::iter::repeat_n(vec![b'x'; 1 << 20], 17);
        assert!(parts.map(|part| events.feed(&part)).any(|fed| fed.is_err()));
    }
}
