//! The subjects, and the requests used to measure them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::process::Process;
use crate::upstream::Compression;
use crate::wire::Check;

/// A route to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Without a proxy.
    Direct,
    /// Through the plain forwarder.
    Forwarder,
    /// Through the daemon, with Chat Completions.
    Chat,
    /// Through the daemon, with Responses.
    Responses,
    /// Through the daemon, with Messages.
    Messages,
}

/// All processes of a measurement.
pub(crate) struct Field {
    pub(crate) upstream: Process,
    pub(crate) forwarder: Process,
    pub(crate) proxy: Process,
}

/// The contents of a request.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Number of deltas in the response.
    pub(crate) count: u64,
    /// Delay between deltas.
    pub(crate) pause_milliseconds: u64,
    pub(crate) form: Form,
    /// The conversation so far, starting with a user message.
    pub(crate) turns: Vec<String>,
}

/// The response format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Stream,
    Document,
}

impl Field {
    pub(crate) fn start(compression: Compression) -> std::io::Result<Self> {
        let role = if compression == Compression::Zstd { "zstd-upstream" } else { "upstream" };
        let upstream = Process::role(&["role".to_owned(), role.to_owned()])?;
        let address = upstream.address.to_string();
        let forwarder = Process::role(&["role".to_owned(), "forwarder".to_owned(), address])?;
        let proxy = Process::proxy(upstream.address)?;
        Ok(Self { upstream, forwarder, proxy })
    }

    /// The measured process; for direct connections, the backend.
    pub(crate) fn process(&self, subject: Subject) -> &Process {
        match subject {
            Subject::Direct => &self.upstream,
            Subject::Forwarder => &self.forwarder,
            Subject::Chat | Subject::Responses | Subject::Messages => &self.proxy,
        }
    }

    pub(crate) fn address(&self, subject: Subject) -> SocketAddr {
        self.process(subject).address
    }
}

impl Order {
    pub(crate) fn stream(count: u64) -> Self {
        Self { count, pause_milliseconds: 0, form: Form::Stream, turns: vec!["Count.".to_owned()] }
    }
}

impl Subject {
    pub(crate) const ALL: [Self; 5] = [Self::Direct, Self::Forwarder, Self::Chat, Self::Responses, Self::Messages];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Forwarder => "forwarder",
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }

    /// Creates the check for responses to an order.
    pub(crate) fn check(self, order: &Order) -> Check {
        let marker = match self {
            Self::Direct | Self::Forwarder | Self::Responses => r#""delta":""#,
            Self::Chat => r#""content":""#,
            Self::Messages => r#""text":""#,
        };
        Check::new(marker, order.count)
    }

    /// The complete request: head and body.
    pub(crate) fn request(self, order: &Order) -> Vec<u8> {
        let body = self.body(order);
        let path = match self {
            Self::Direct | Self::Forwarder => "/backend-api/codex/responses",
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: text/event-stream\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    /// The body. The model is the first member, because the backend looks for it there.
    fn body(self, order: &Order) -> Vec<u8> {
        let model = format!("gpt-bench-{}-{}", order.count, order.pause_milliseconds);
        let is_stream = order.form == Form::Stream;
        let (list, rest) = match self {
            Self::Direct | Self::Forwarder | Self::Responses => ("input", json!({ "store": false })),
            Self::Chat => ("messages", json!({})),
            Self::Messages => ("messages", json!({ "max_tokens": 1_000_000 })),
        };
        let turns = order.turns.iter().zip(["user", "assistant"].into_iter().cycle());
        let turns: Vec<Value> = turns.map(|(text, role)| json!({ "role": role, "content": text })).collect();
        let mut members = rest;
        members[list] = turns.into();
        members["stream"] = is_stream.into();
        let members = members.to_string();
        format!(r#"{{"model":"{model}",{}"#, members.trim_start_matches('{')).into_bytes()
    }
}
