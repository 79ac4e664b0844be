//! A backend with minimal cost: it responds from a template whose numbers are patched in place, with one HTTP
//! chunk per event and many events per write.
//!
//! The model name selects the response: `gpt-bench-COUNT-PAUSE` is COUNT text deltas, PAUSE milliseconds apart.
//! Delta number N is `1000000N ` with N in seven digits; with pauses, the send time (Unix nanoseconds) follows,
//! so that the reader can compute the latency.
//!
//! With [`Compression::Zstd`], the responses to requests that accept zstd are compressed, flushed after each event.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zstd::stream::write::Encoder;

/// The number of the first delta; all numbers have the same number of digits.
pub(crate) const FIRST: u64 = 10_000_000;
/// Digits of a number.
pub(crate) const DIGITS: usize = 8;
/// Digits of a time in Unix nanoseconds.
const TIME_DIGITS: usize = 19;
/// Maximum number of events in one write.
const BLOCK_EVENTS: u64 = 64;
const MOST_HEAD_BYTES: usize = 64 * 1024;
/// The model is near the start of every body.
const MODEL_WITHIN_BYTES: usize = 4096;
const ZSTD_LEVEL: i32 = 1;

const STREAM_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const ZSTD_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: zstd\r\ntransfer-encoding: chunked\r\n\r\n";
const CATALOGUE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 37\r\n\r\n{\"models\":[{\"slug\":\"gpt-bench-1-0\"}]}";
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// The response that a model name selects.
#[derive(Clone, Copy, Debug)]
struct Order {
    count: u64,
    pause: Duration,
}

/// Compression of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    /// If the request accepts it: only the daemon's do.
    Zstd,
}

/// Serves until the process exits.
pub(crate) async fn serve(listener: TcpListener, compression: Compression) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(answer_all(stream, compression));
    }
}

/// Runs until the connection ends, with or without an error.
async fn answer_all(mut stream: TcpStream, compression: Compression) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(MOST_HEAD_BYTES);
    while let Some(order) = read_request(&mut stream, &mut buffer).await? {
        match order {
            Asked::Catalogue => stream.write_all(CATALOGUE).await?,
            Asked::Other => stream.write_all(NOT_FOUND).await?,
            Asked::Response(order) => {
                let is_compressed = compression == Compression::Zstd && accepts_zstd(&buffer);
                let encoder = is_compressed.then(|| Encoder::new(Vec::new(), ZSTD_LEVEL)).transpose()?;
                answer(&mut stream, order, Chunks { encoder }).await?;
            }
        }
    }
    Ok(())
}

enum Asked {
    Response(Order),
    Catalogue,
    Other,
}

/// Reads a complete request, but keeps only the start of its body.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Asked>> {
    buffer.clear();
    let head = loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let length = content_length(&buffer[..head]);
    let mut seen = buffer.len() - head;
    while seen < length.min(MODEL_WITHIN_BYTES) {
        match stream.read_buf(buffer).await? {
            0 => return Ok(None),
            more => seen += more,
        }
    }
    let mut sink = vec![0; if seen < length { 256 * 1024 } else { 0 }];
    while seen < length {
        match stream.read(&mut sink).await? {
            0 => return Ok(None),
            more => seen += more,
        }
    }
    Ok(Some(asked(&buffer[..head], &buffer[head..])))
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn accepts_zstd(request: &[u8]) -> bool {
    memmem::find(request, b"accept-encoding: zstd").is_some()
}

fn asked(head: &[u8], body: &[u8]) -> Asked {
    if memmem::find(head, b"/models").is_some() {
        return Asked::Catalogue;
    }
    order(body).map_or(Asked::Other, Asked::Response)
}

fn order(body: &[u8]) -> Option<Order> {
    let front = &body[..body.len().min(MODEL_WITHIN_BYTES)];
    let from = memmem::find(front, b"gpt-bench-")? + b"gpt-bench-".len();
    let name = front[from..].split(|&byte| byte == b'"').next()?;
    let (count, pause) = std::str::from_utf8(name).ok()?.split_once('-')?;
    Some(Order { count: count.parse().ok()?, pause: Duration::from_millis(pause.parse().ok()?) })
}

async fn answer(stream: &mut TcpStream, order: Order, mut chunks: Chunks) -> io::Result<()> {
    let mut opening = if chunks.encoder.is_some() { ZSTD_HEAD } else { STREAM_HEAD }.to_vec();
    for event in opening_events() {
        chunks.push(&mut opening, |block| push_event(block, &event))?;
    }
    let template = Template::new(order.pause);
    if order.pause.is_zero() {
        let mut block = opening;
        for first in (0..order.count).step_by(usize::try_from(BLOCK_EVENTS).unwrap_or(1)) {
            for number in first..(first + BLOCK_EVENTS).min(order.count) {
                chunks.push(&mut block, |block| template.push(FIRST + number, block))?;
            }
            stream.write_all(&block).await?;
            block.clear();
        }
    } else {
        stream.write_all(&opening).await?;
        let mut ticks = tokio::time::interval(order.pause);
        let mut block = Vec::new();
        for number in 0..order.count {
            ticks.tick().await;
            block.clear();
            chunks.push(&mut block, |block| template.push(FIRST + number, block))?;
            stream.write_all(&block).await?;
        }
    }
    let mut end = Vec::new();
    for event in closing_events(order.count) {
        chunks.push(&mut end, |block| push_event(block, &event))?;
    }
    chunks.finish(&mut end)?;
    stream.write_all(&end).await
}

/// Writes HTTP chunks, compressed if there is an encoder.
struct Chunks {
    encoder: Option<Encoder<'static, Vec<u8>>>,
}

impl Chunks {
    /// Appends one chunk. `write` writes it uncompressed.
    fn push(&mut self, block: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = block.len();
        write(block);
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        let size_end = memmem::find(&block[start..], b"\r\n").unwrap_or_default();
        encoder.write_all(&block[start + size_end + 2..block.len() - 2])?;
        encoder.flush()?;
        block.truncate(start);
        push_chunk(block, encoder.get_mut());
        Ok(())
    }

    /// Ends the body.
    fn finish(self, block: &mut Vec<u8>) -> io::Result<()> {
        if let Some(encoder) = self.encoder {
            push_chunk(block, &mut encoder.finish()?);
        }
        block.extend_from_slice(b"0\r\n\r\n");
        Ok(())
    }
}

/// Moves bytes into a chunk.
fn push_chunk(block: &mut Vec<u8>, bytes: &mut Vec<u8>) {
    block.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    block.append(bytes);
    block.extend_from_slice(b"\r\n");
}

/// One delta as an HTTP chunk, with the offsets of the variable parts.
struct Template {
    frame: Vec<u8>,
    sequence_at: usize,
    delta_at: usize,
    time_at: Option<usize>,
}

impl Template {
    fn new(pause: Duration) -> Self {
        let time = if pause.is_zero() { "" } else { "TTTTTTTTTTTTTTTTTTT " };
        let event = format!(
            r#"{{"type":"response.output_text.delta","sequence_number":SSSSSSSS,"item_id":"msg_1","output_index":0,"content_index":0,"delta":"DDDDDDDD {time}","logprobs":[]}}"#
        );
        let mut frame = Vec::new();
        push_event(&mut frame, &event);
        let at = |mark: &[u8]| memmem::find(&frame, mark);
        let (sequence_at, delta_at) = (at(b"SSSSSSSS").unwrap_or(0), at(b"DDDDDDDD").unwrap_or(0));
        let time_at = at(b"TTTTTTTTTTTTTTTTTTT");
        Self { frame, sequence_at, delta_at, time_at }
    }

    fn push(&self, number: u64, block: &mut Vec<u8>) {
        let start = block.len();
        block.extend_from_slice(&self.frame);
        let frame = &mut block[start..];
        patch(&mut frame[self.sequence_at..][..DIGITS], number);
        patch(&mut frame[self.delta_at..][..DIGITS], number);
        if let Some(at) = self.time_at {
            patch(&mut frame[at..][..TIME_DIGITS], unix_nanos());
        }
    }
}

fn patch(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// The time of the system clock, which all processes share.
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn opening_events() -> [String; 3] {
    [
        r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1760000000,"status":"in_progress","model":"gpt-bench","output":[]}}"#,
        r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
        r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""}}"#,
    ]
    .map(str::to_owned)
}

/// The last events of a response. Like the real backend, it repeats the text, except for long responses, so that their
/// length doesn't affect the cost of the last events.
fn closing_events(count: u64) -> [String; 2] {
    let numbers = if count <= BLOCK_EVENTS { FIRST..FIRST + count } else { 0..0 };
    let text: String = numbers.map(|number| number.to_string() + " ").collect();
    let part = format!(r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":"{text}"}}"#);
    let content = if text.is_empty() { String::new() } else { part };
    let item =
        format!(r#"{{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[{content}]}}"#);
    let usage = format!(r#"{{"input_tokens":9,"output_tokens":{count},"total_tokens":{}}}"#, count + 9);
    [
        format!(r#"{{"type":"response.output_item.done","sequence_number":3,"output_index":0,"item":{item}}}"#),
        format!(
            r#"{{"type":"response.completed","sequence_number":4,"response":{{"id":"resp_1","object":"response","created_at":1760000000,"status":"completed","model":"gpt-bench","output":[],"usage":{usage}}}}}"#
        ),
    ]
}

/// Appends an event as one HTTP chunk.
fn push_event(bytes: &mut Vec<u8>, json: &str) {
    let kind = json.split('"').nth(3).unwrap_or_default();
    let event = format!("event: {kind}\ndata: {json}\n\n");
    bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
}
