//! A minimal HTTP/1.1 client for load generation, cheap compared with what it measures: requests are prepared
//! bytes, chunked bodies are decoded in place, and every delta is checked.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use memchr::memmem::{self, Finder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::upstream::{DIGITS, FIRST, unix_nanos};

const BUFFER_BYTES: usize = 64 * 1024;

/// A connection that is reused.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// The framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// An unexpected response.
pub(crate) fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(BUFFER_BYTES) })
    }

    /// Sends a request and reads the complete response, passing each delta to the check.
    pub(crate) async fn exchange(&mut self, request: &[u8], check: &mut Check) -> io::Result<()> {
        self.stream.write_all(request).await?;
        match self.head().await? {
            Framing::Length(length) => self.whole(length, check).await,
            Framing::Chunked => self.chunks(check).await,
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buffer.reserve(BUFFER_BYTES / 2);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(wrong("the connection ended in the middle of an answer")),
            _ => Ok(()),
        }
    }

    async fn head(&mut self) -> io::Result<Framing> {
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(end + 4)).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let framing = match length.and_then(|length| length.trim().parse().ok()) {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        if head.starts_with("http/1.1 200") {
            return Ok(framing);
        }
        self.fill().await?;
        Err(wrong(format!("{head}{}", String::from_utf8_lossy(&self.buffer))))
    }

    async fn whole(&mut self, length: usize, check: &mut Check) -> io::Result<()> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        let body = self.buffer.split_to(length);
        check.document(&body)
    }

    async fn chunks(&mut self, check: &mut Check) -> io::Result<()> {
        let mut left = 0;
        loop {
            // Decode all received data before the next read.
            while let Some(step) = next_chunk(&mut self.buffer, left)? {
                match step {
                    Chunk::End => return check.end(),
                    Chunk::Data { length, left: rest } => {
                        check.feed(&self.buffer[..length])?;
                        self.buffer.advance(length);
                        left = rest;
                    }
                }
            }
            self.fill().await?;
        }
    }
}

enum Chunk {
    /// The number of data bytes at the front; `left` bytes of their chunk are still missing, including its line
    /// end.
    Data {
        length: usize,
        left: usize,
    },
    End,
}

/// Parses the front of a chunked body; `left` bytes of the previous chunk are still missing, including its line
/// end.
fn next_chunk(buffer: &mut BytesMut, left: usize) -> io::Result<Option<Chunk>> {
    if left > 2 {
        let length = (left - 2).min(buffer.len());
        return Ok((length > 0).then_some(Chunk::Data { length, left: left - length }));
    }
    // The line end of the previous chunk and the size of the next one are parsed together.
    let Some(line) = memmem::find(buffer.get(left..).unwrap_or_default(), b"\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[left..left + line]).map_err(|_| wrong("a chunk has no size"))?;
    let size = usize::from_str_radix(text, 16).map_err(|_| wrong(format!("'{text}' is no chunk size")))?;
    if size == 0 {
        if buffer.len() < left + line + 4 {
            return Ok(None);
        }
        buffer.advance(left + line + 4);
        return Ok(Some(Chunk::End));
    }
    buffer.advance(left + line + 2);
    let length = size.min(buffer.len());
    Ok(Some(Chunk::Data { length, left: size + 2 - length }))
}

/// Checks that every delta arrives once and in order.
pub(crate) struct Check {
    marker: Finder<'static>,
    expected: u64,
    seen: u64,
    carry: Vec<u8>,
    /// Unix time of the first delta in nanoseconds.
    pub(crate) first_at: Option<u64>,
    /// Nanoseconds between sending and receiving, if the deltas contain their send time.
    pub(crate) ages: Vec<u64>,
}

impl Check {
    /// For responses with `expected` deltas; `marker` precedes each one.
    pub(crate) fn new(marker: &'static str, expected: u64) -> Self {
        let marker = Finder::new(marker.as_bytes());
        Self { marker, expected, seen: 0, carry: Vec::new(), first_at: None, ages: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.carry.is_empty() {
            let kept = self.scan(bytes)?;
            self.carry.extend_from_slice(&bytes[kept..]);
            return Ok(());
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(bytes);
        let kept = self.scan(&carry)?;
        carry.drain(..kept);
        self.carry = carry;
        Ok(())
    }

    /// Checks complete deltas and returns the offset of the remaining bytes.
    fn scan(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(found) = self.marker.find(&bytes[at..]) {
            let from = at + found + self.marker.needle().len();
            let Some(end) = memchr::memchr(b'"', &bytes[from..]) else { return Ok(at + found) };
            self.delta(&bytes[from..from + end])?;
            at = from + end;
        }
        Ok(at.max(bytes.len().saturating_sub(self.marker.needle().len())))
    }

    fn delta(&mut self, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        // Several deltas may have been merged into one.
        while rest.len() > DIGITS {
            let number = parse(&rest[..DIGITS])?;
            if number != FIRST + self.seen {
                return Err(wrong(format!("delta {number} came in the place of {}", FIRST + self.seen)));
            }
            self.seen += 1;
            rest = &rest[DIGITS + 1..];
            if self.first_at.is_none() {
                self.first_at = Some(unix_nanos());
            }
            if let Some(space) = memchr::memchr(b' ', rest).filter(|&space| space > DIGITS) {
                self.ages.push(unix_nanos().saturating_sub(parse(&rest[..space])?));
                rest = &rest[space + 1..];
            }
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.carry.clear();
        let seen = std::mem::take(&mut self.seen);
        if seen == self.expected { Ok(()) } else { Err(wrong(format!("{seen} deltas of {} came", self.expected))) }
    }

    /// A document contains the text of all deltas.
    fn document(&mut self, body: &[u8]) -> io::Result<()> {
        if let Some(found) = memmem::find(body, FIRST.to_string().as_bytes()) {
            let end = memchr::memchr(b'"', &body[found..]).ok_or_else(|| wrong("the text has no end"))?;
            self.delta(&body[found..found + end])?;
        }
        self.end()
    }
}

fn parse(digits: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong(format!("'{}' is no delta of ours", String::from_utf8_lossy(digits))))
}
