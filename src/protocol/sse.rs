//! Server-sent events: splits bytes into event data, and writes data as a frame.
//!
//! [`Splitter`] takes time linear in the number of bytes and limits the size of an event. It implements the parts of
//! the WHATWG event stream format that the backend uses: CR, LF or CRLF line ends, `data` lines joined by LF, comments
//! and other fields ignored, a byte order mark skipped, an unfinished last event dropped. The data of an event with one
//! `data` line that arrived in one chunk is a slice of that chunk. UTF-8 is not validated.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a byte stream into events.
#[derive(Debug)]
pub struct Splitter {
    limit_bytes: usize,
    /// Bytes that were pushed and not yet split into lines.
    chunks: VecDeque<Bytes>,
    /// The start of an incomplete line, from chunks that have been consumed.
    line: BytesMut,
    data: EventData,
    /// The last line ended with CR, so an LF that follows belongs to its line end.
    is_after_cr: bool,
    is_first_line: bool,
}

/// The `data` lines of an incomplete event.
#[derive(Debug, Default)]
enum EventData {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

/// An event exceeds the size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Splitter {
    /// A splitter that rejects an event whose data, together with the current line, exceeds `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            chunks: VecDeque::new(),
            line: BytesMut::new(),
            data: EventData::None,
            is_after_cr: false,
            is_first_line: true,
        }
    }

    /// Adds the next bytes of the stream. Chunks may end anywhere.
    pub fn push(&mut self, bytes: &Bytes) {
        if !bytes.is_empty() {
            self.chunks.push_back(bytes.clone());
        }
    }

    /// Returns the `data` of the next complete event; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`TooLarge`] if an event, complete or not, exceeds the limit. The splitter can't be used after that.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, TooLarge> {
        while let Some(line) = self.next_line()? {
            if !line.is_empty() {
                self.add_line(&line);
            } else if let Some(data) = std::mem::take(&mut self.data).finish() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next complete line, without its end.
    fn next_line(&mut self) -> Result<Option<Bytes>, TooLarge> {
        while let Some(chunk) = self.chunks.front_mut() {
            if std::mem::take(&mut self.is_after_cr) && chunk.first() == Some(&b'\n') {
                chunk.advance(1);
            }
            let end = memchr::memchr2(b'\r', b'\n', chunk);
            let piece = chunk.split_to(end.unwrap_or(chunk.len()));
            if self.line.len() + piece.len() + self.data.len() > self.limit_bytes {
                return Err(TooLarge);
            }
            if end.is_some() {
                self.is_after_cr = chunk.first() == Some(&b'\r');
                chunk.advance(1);
            }
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
            if end.is_some() {
                return Ok(Some(self.finish_line(piece)));
            }
            self.line.extend_from_slice(&piece);
        }
        Ok(None)
    }

    fn finish_line(&mut self, piece: Bytes) -> Bytes {
        let mut line = if self.line.is_empty() {
            piece
        } else {
            self.line.extend_from_slice(&piece);
            self.line.split().freeze()
        };
        if std::mem::take(&mut self.is_first_line) && line.starts_with(BYTE_ORDER_MARK) {
            line.advance(BYTE_ORDER_MARK.len());
        }
        line
    }

    fn add_line(&mut self, line: &Bytes) {
        let Some(rest) = line.strip_prefix(b"data") else { return };
        let value = match rest {
            [] => rest,
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return,
        };
        self.data.add(line.slice_ref(value));
    }
}

impl EventData {
    fn add(&mut self, value: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(value),
            Self::One(first) => {
                let mut joined = BytesMut::from(first);
                joined.put_u8(b'\n');
                joined.extend_from_slice(&value);
                Self::Many(joined)
            }
            Self::Many(mut joined) => {
                joined.put_u8(b'\n');
                joined.extend_from_slice(&value);
                Self::Many(joined)
            }
        };
    }

    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(data) => data.len(),
            Self::Many(data) => data.len(),
        }
    }

    fn finish(self) -> Option<Bytes> {
        match self {
            Self::None => None,
            Self::One(data) => Some(data),
            Self::Many(data) => Some(data.freeze()),
        }
    }
}

/// Writes `data: <json>` and a blank line.
pub fn frame(json: &[u8], wire: &mut BytesMut) {
    wire.put_slice(b"data: ");
    wire.put_slice(json);
    wire.put_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use eventsource_stream::Eventsource;
    use futures_util::StreamExt;
    use proptest::prelude::*;

    use super::{Splitter, TooLarge};

    fn drain(splitter: &mut Splitter, found: &mut Vec<Bytes>) -> Result<(), TooLarge> {
        while let Some(data) = splitter.next_event()? {
            found.push(data);
        }
        Ok(())
    }

    fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limit_bytes: usize) -> Result<Vec<Bytes>, TooLarge> {
        let mut splitter = Splitter::new(limit_bytes);
        let mut found = Vec::new();
        for piece in pieces {
            splitter.push(&Bytes::copy_from_slice(piece));
            drain(&mut splitter, &mut found)?;
        }
        Ok(found)
    }

    fn oracle(text: &str) -> Vec<Bytes> {
        let whole = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(text.as_bytes().to_vec())]);
        let events = futures_util::FutureExt::now_or_never(whole.eventsource().collect::<Vec<_>>()).unwrap();
        events.into_iter().map(|event| Bytes::from(event.unwrap().data)).collect()
    }

    #[test]
    fn an_event_in_one_chunk_is_a_slice_of_it() {
        let chunk = Bytes::from_static(b"event: a\ndata: {\"type\":\"a\"}\n\n");
        let mut splitter = Splitter::new(1000);
        splitter.push(&chunk);
        let data = splitter.next_event().unwrap().unwrap();
        assert_eq!(data, "{\"type\":\"a\"}");
        assert!(chunk.as_ptr_range().contains(&data.as_ptr()));
    }

    #[test]
    fn chunks_may_be_pushed_before_the_first_is_read() {
        let mut splitter = Splitter::new(1000);
        for piece in ["da", "ta: a\r", "\n\r", "\ndata:b\n\n"] {
            splitter.push(&Bytes::from_static(piece.as_bytes()));
        }
        let mut found = Vec::new();
        drain(&mut splitter, &mut found).unwrap();
        assert_eq!(found, ["a", "b"]);
    }

    #[test]
    fn an_event_without_data_or_without_an_end_is_dropped() {
        let text = ": comment\n\nevent: ping\nid: 1\n\ndatabase: x\n\ndata: cut\n";
        assert_eq!(split([text.as_bytes()], 1000), Ok(vec![]));
    }

    #[test]
    fn data_lines_are_joined() {
        let text = "\u{feff}data\ndata: a\ndata:  b\n\n";
        assert_eq!(split([text.as_bytes()], 1000).unwrap(), ["\na\n b"]);
    }

    #[test]
    fn an_event_over_the_limit_is_rejected_before_its_end() {
        assert_eq!(split([b"data: 12345".as_slice()], 10), Err(TooLarge));
        assert_eq!(split([b"data: 1234\n\n".as_slice()], 10).unwrap(), ["1234"]);
        let many = "data: 1\n".repeat(100);
        assert_eq!(split(many.as_bytes().chunks(3), 100), Err(TooLarge));
    }

    #[test]
    fn the_limit_applies_to_each_event() {
        let many = "data: 1234\n\n".repeat(1000);
        assert_eq!(split([many.as_bytes()], 10).unwrap().len(), 1000);
    }

    /// Without byte order marks: the oracle panics on one at the start.
    fn stream_text() -> impl Strategy<Value = String> {
        let token = prop::sample::select(vec![
            "data",
            ":",
            " ",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "a",
            "é",
            "😀",
            "{\"x\":1}",
            "event",
            "id",
            "data: ",
            "\n\r",
        ]);
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #[test]
        fn any_chunks_give_the_events_of_the_oracle(text in stream_text(), cut in any::<prop::sample::Index>(), size in 1_usize..9) {
            // The oracle waits for the byte after a CR, so the text ends with a comment.
            let text = format!("{text}\n: end\n");
            let expected = oracle(&text);
            let bytes = text.as_bytes();
            let (left, right) = bytes.split_at(cut.index(bytes.len()));
            prop_assert_eq!(&split([left, right], 10_000).unwrap(), &expected);
            prop_assert_eq!(&split(bytes.chunks(size), 10_000).unwrap(), &expected);
        }

        #[test]
        fn the_limit_does_not_depend_on_chunks(text in stream_text(), size in 1_usize..9, limit in 0_usize..30) {
            let whole = split([text.as_bytes()], limit);
            prop_assert_eq!(split(text.as_bytes().chunks(size), limit), whole);
        }
    }
}
