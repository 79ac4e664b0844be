//! The scripts of a backend.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// The steps on a connection after a request was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(pub(super) Vec<Step>);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Head(u16, Vec<(String, String)>),
    Data(Vec<u8>),
    End,
    Pause(Duration),
    Wait(Gate),
    /// Over a WebSocket, waits for another frame of the client.
    Frame,
    Hang,
    Close,
    /// Over a WebSocket, the close code and the reason.
    CloseWith(u16, String),
    Reset,
    Refuse,
}

/// A synchronization point controlled by the test. Opening it lets one waiting script continue, now or later.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(pub(super) Arc<Notify>);

impl Gate {
    /// Lets one script continue.
    pub(crate) fn open(&self) {
        self.0.notify_one();
    }
}

impl Script {
    /// A complete response.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::answer_bytes(status, headers, body.as_bytes())
    }

    /// The same with any body.
    pub(crate) fn answer_bytes(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        Self::default().head(status, headers).chunk(body).end()
    }

    /// A JSON response.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::answer(status, &[("content-type", "application/json")], body)
    }

    /// The head of an event stream, before events, gates and an end.
    pub(crate) fn stream(headers: &[(&str, &str)]) -> Self {
        let kind = [("content-type", "text/event-stream")];
        Self::default().head(200, &headers.iter().copied().chain(kind).collect::<Vec<_>>())
    }

    /// No response, until the client disconnects.
    pub(crate) fn silence() -> Self {
        Self::default().hang()
    }

    /// A complete stream of these events.
    pub(crate) fn events(events: &[&str]) -> Self {
        events.iter().fold(Self::stream(&[]), |script, data| script.event(data)).end()
    }

    /// One event, in its own chunk.
    pub(crate) fn event(self, data: &str) -> Self {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// Arbitrary bytes of a body, in their own chunk or frame.
    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if bytes.is_empty() { self } else { self.then(Step::Data(bytes.to_vec())) }
    }

    /// Waits for a time, to pace a load; tests don't rely on it for ordering.
    pub(crate) fn pause(self, span: Duration) -> Self {
        if span.is_zero() { self } else { self.then(Step::Pause(span)) }
    }

    /// Waits for the gate.
    pub(crate) fn gate(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// Continues with another script.
    pub(crate) fn chained(mut self, next: Self) -> Self {
        self.0.extend(next.0);
        self
    }

    /// Waits for a frame of the client on the same WebSocket.
    pub(crate) fn frame(self) -> Self {
        self.then(Step::Frame)
    }

    /// The proper end of a stream.
    pub(crate) fn end(self) -> Self {
        self.then(Step::End)
    }

    /// Sends nothing more, until the client disconnects.
    pub(crate) fn hang(self) -> Self {
        self.then(Step::Hang)
    }

    /// Closes the connection in the middle of the response.
    pub(crate) fn cut(self) -> Self {
        self.then(Step::Close)
    }

    /// Closes the connection, over a WebSocket with this code and reason.
    pub(crate) fn close(self, code: u16, reason: &str) -> Self {
        self.then(Step::CloseWith(code, reason.to_owned()))
    }

    /// Resets the connection.
    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Over HTTP/2, refuses the stream: the request was not processed.
    pub(crate) fn refused() -> Self {
        Self::default().then(Step::Refuse)
    }

    /// The same with the backend's request id, wherever it responds.
    pub(crate) fn named(mut self, request_id: &str) -> Self {
        for step in &mut self.0 {
            if let Step::Head(_, headers) = step {
                headers.push(("x-oai-request-id".to_owned(), request_id.to_owned()));
            }
        }
        self
    }

    fn head(self, status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.then(Step::Head(status, headers))
    }

    fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }
}
