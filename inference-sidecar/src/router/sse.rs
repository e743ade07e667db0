//! Server-sent events, parsed as the bytes come, with bounds.
//! Format: <https://html.spec.whatwg.org/multipage/server-sent-events.html>, section 9.2.6.

use std::collections::VecDeque;

/// Bytes of one line, and of the data of one event: a chunk with 20 alternatives per token is far smaller.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Splits a stream of bytes into events.
#[derive(Debug, Default)]
pub(super) struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    is_error: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    has_begun: bool,
}

/// The data of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SseEvent {
    pub data: String,
    /// The event's name is `error`.
    pub is_error: bool,
}

/// The stream is not one of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SseError {
    TooLong,
    NotUtf8,
}

impl SseParser {
    /// Takes the next bytes and appends the events that they complete. After an error the parser is
    /// of no more use.
    pub fn push(&mut self, bytes: &[u8], events: &mut VecDeque<SseEvent>) -> Result<(), SseError> {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_line(events)?,
                _ if self.line.len() == EVENT_BYTES_MAX => return Err(SseError::TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut VecDeque<SseEvent>) -> Result<(), SseError> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.has_begun, true) && line.starts_with(b"\xEF\xBB\xBF") {
            line.drain(..3);
        }
        let outcome = match line.is_empty() {
            true => self.end_event(events),
            false => self.field(&line),
        };
        // The next line reuses the memory.
        line.clear();
        self.line = line;
        outcome
    }

    fn field(&mut self, line: &[u8]) -> Result<(), SseError> {
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push(b'\n');
                }
                if self.data.len() + value.len() > EVENT_BYTES_MAX {
                    return Err(SseError::TooLong);
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.is_error = value == b"error",
            // Comments (an empty name), `id`, `retry` and unknown fields.
            _ => {}
        }
        Ok(())
    }

    fn end_event(&mut self, events: &mut VecDeque<SseEvent>) -> Result<(), SseError> {
        let data = std::mem::take(&mut self.data);
        let is_error = std::mem::take(&mut self.is_error);
        if std::mem::take(&mut self.has_data) {
            let data = String::from_utf8(data).map_err(|_| SseError::NotUtf8)?;
            events.push_back(SseEvent { data, is_error });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Goal: events are the same however the bytes are cut, and no stream makes the parser hold more
    //! than its bound.

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, SseError> {
        let (mut parser, mut events) = (SseParser::default(), VecDeque::new());
        for piece in pieces {
            parser.push(piece, &mut events)?;
        }
        Ok(events.into())
    }

    fn data(texts: &[&str]) -> Result<Vec<SseEvent>, SseError> {
        let event = |text: &&str| SseEvent {
            data: (*text).to_owned(),
            is_error: false,
        };
        Ok(texts.iter().map(event).collect())
    }

    #[test]
    fn formats() {
        for (stream, expected) in [
            ("data: a\n\n", &["a"][..]),
            ("data:a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            ("data: a\r\rdata: b\r\r", &["a", "b"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data\n\n", &[""]),
            ("data:  a \n\n", &[" a "]),
            (": ping - 12:00\n\ndata: a\n\n: ping\n", &["a"]),
            ("id: 7\nretry: 10\nevent: x\ndata: a\nnothing\n\n", &["a"]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("data: [DONE]\n\n", &["[DONE]"]),
            ("data: a\n\ndata: cut", &["a"]),
            ("database: a\n\n", &[]),
            ("\n\n\n", &[]),
        ] {
            assert_eq!(parse(&[stream.as_bytes()]), data(expected), "{stream:?}");
        }
    }

    #[test]
    fn errors_are_marked() {
        let events = parse(&[b"event: error\ndata: {}\n\ndata: a\n\n"]).unwrap();
        assert_eq!([events[0].is_error, events[1].is_error], [true, false]);
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let stream =
            "data: {\"a\": \"größe 🦙\"}\r\n\r\n: ping\r\n\r\ndata: ü\ndata: 🦙\n\ndata: x\r\r";
        let whole = parse(&[stream.as_bytes()]);
        assert_eq!(whole, data(&["{\"a\": \"größe 🦙\"}", "ü\n🦙", "x"]));
        for first in 0..stream.len() {
            let (a, rest) = stream.as_bytes().split_at(first);
            assert_eq!(parse(&[a, rest]), whole, "cut at {first}");
        }
        let bytes: Vec<_> = stream.as_bytes().chunks(1).collect();
        assert_eq!(parse(&bytes), whole);
    }

    #[test]
    fn bounds() {
        let line = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert_eq!(parse(&[b"data: ", &line]), Err(SseError::TooLong));
        assert_eq!(parse(&[b":", &line]), Err(SseError::TooLong));
        let half = vec![b'x'; EVENT_BYTES_MAX / 2];
        let lines: &[&[u8]] = &[b"data: ", &half, b"\ndata: ", &half, b"\n"];
        assert_eq!(parse(lines), Err(SseError::TooLong));
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(SseError::NotUtf8));
    }
}
