//! What a backend is told to do, and when.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// What happens on a connection after a request has been read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(pub(super) Vec<Step>);

#[derive(Clone, Debug)]
pub(super) enum Step {
    Head(u16, Vec<(String, String)>),
    Data(Vec<u8>),
    End,
    Pause(Duration),
    Wait(Gate),
    Hang,
    Close,
    /// Over a WebSocket, the close code and the reason.
    CloseWith(u16, String),
    Reset,
    Refuse,
}

/// A moment that the test decides. Opening it lets one waiting script go on, now or later.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(pub(super) Arc<Notify>);

impl Gate {
    /// Lets one script go on.
    pub(crate) fn open(&self) {
        self.0.notify_one();
    }
}

impl Script {
    /// A whole answer.
    pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Self::default().head(status, headers).chunk(body).end()
    }

    /// A JSON answer.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::answer(status, &[("content-type", "application/json")], body)
    }

    /// The head of a stream of events; events, gates and an end follow.
    pub(crate) fn stream(headers: &[(&str, &str)]) -> Self {
        let kind = [("content-type", "text/event-stream")];
        Self::default().head(200, &headers.iter().copied().chain(kind).collect::<Vec<_>>())
    }

    /// No answer at all, until the client hangs up.
    pub(crate) fn silence() -> Self {
        Self::default().hang()
    }

    /// A whole stream of these events.
    pub(crate) fn events(events: &[&str]) -> Self {
        events.iter().fold(Self::stream(&[]), |script, data| script.event(data)).end()
    }

    /// One event, as a chunk of its own.
    pub(crate) fn event(self, data: &str) -> Self {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// Any bytes of a body, as a chunk or frame of their own.
    pub(crate) fn chunk(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if bytes.is_empty() { self } else { self.then(Step::Data(bytes.to_vec())) }
    }

    /// Lets some time pass, which is the pace of a load and orders nothing.
    pub(crate) fn pause(self, span: Duration) -> Self {
        if span.is_zero() { self } else { self.then(Step::Pause(span)) }
    }

    /// Waits for the gate.
    pub(crate) fn gate(self, gate: &Gate) -> Self {
        self.then(Step::Wait(gate.clone()))
    }

    /// The proper end of a stream.
    pub(crate) fn end(self) -> Self {
        self.then(Step::End)
    }

    /// Nothing more, until the client hangs up.
    pub(crate) fn hang(self) -> Self {
        self.then(Step::Hang)
    }

    /// The connection ends in the middle.
    pub(crate) fn cut(self) -> Self {
        self.then(Step::Close)
    }

    /// The connection is closed, over a WebSocket with this code and reason.
    pub(crate) fn close(self, code: u16, reason: &str) -> Self {
        self.then(Step::CloseWith(code, reason.to_owned()))
    }

    /// The connection is torn down.
    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// Over HTTP/2, the stream is refused: the request was not processed.
    pub(crate) fn refused() -> Self {
        Self::default().then(Step::Refuse)
    }

    /// The same with the backend's own id for the request, wherever it answers at all.
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
