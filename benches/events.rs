//! Measures the pure core: time and allocations of an event in each dialect.
//!
//! ```text
//! cargo bench --bench events
//! ```
//!
//! Figures of a stream are for [`DELTAS`] text deltas; the items-per-second column is per delta.

use bytes::{Bytes, BytesMut};
use codex_proxy::command_hint::CommandHint;
use codex_proxy::protocol::chat::{self, Chat};
use codex_proxy::protocol::codex::request::Omissions;
use codex_proxy::protocol::messages::Messages;
use codex_proxy::protocol::models::Models;
use codex_proxy::protocol::ollama;
use codex_proxy::protocol::responses::{self, Responses};
use codex_proxy::protocol::sse::Splitter;
use codex_proxy::protocol::tokens::TokenLimit;
use codex_proxy::protocol::{CommonOptions, Context, Dialect, Fold, Plan, Reply, Sink, UpstreamEvent, Warnings, Wire};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use http::HeaderMap;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Text deltas of a response.
const DELTAS: usize = 1000;
const INSTRUCTIONS: &str = "You are a helpful assistant.";

fn main() {
    divan::main();
}

/// A dialect and a sample request.
trait Measured: Dialect {
    fn options() -> Self::Options;

    /// A request with this many turns, each with a call and its output.
    fn request(turns: usize) -> Value;
}

impl Measured for Chat {
    fn options() -> chat::Options {
        chat::Options::default()
    }

    fn request(turns: usize) -> Value {
        let turn = |number: usize| {
            let call = json!({ "id": format!("call_{number}"), "type": "function", "function": { "name": "read", "arguments": "{\"path\":\"a\"}" } });
            [
                json!({ "role": "user", "content": "Read the next file, \"please\"." }),
                json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
                json!({ "role": "tool", "tool_call_id": format!("call_{number}"), "content": "one line\nanother line" }),
            ]
        };
        let messages: Vec<Value> = (0..turns).flat_map(turn).collect();
        json!({ "model": "gpt-6.2-sol", "messages": messages, "stream": true })
    }
}

impl Measured for Responses {
    fn options() -> responses::Options {
        responses::Options { store: responses::Store::Off, ..responses::Options::default() }
    }

    fn request(turns: usize) -> Value {
        let turn = |number: usize| {
            [
                json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "Read the next file, \"please\"." }] }),
                json!({ "type": "function_call", "call_id": format!("call_{number}"), "name": "read", "arguments": "{\"path\":\"a\"}" }),
                json!({ "type": "function_call_output", "call_id": format!("call_{number}"), "output": "one line\nanother line" }),
            ]
        };
        let input: Vec<Value> = (0..turns).flat_map(turn).collect();
        json!({ "model": "gpt-6.2-sol", "input": input, "stream": true, "store": false })
    }
}

impl Measured for Messages {
    fn options() -> CommonOptions {
        CommonOptions { default_instructions: INSTRUCTIONS.to_owned(), token_limit: TokenLimit::Ignore }
    }

    fn request(turns: usize) -> Value {
        let turn = |number: usize| {
            let id = format!("toolu_{number}");
            [
                json!({ "role": "user", "content": "Read the next file, \"please\"." }),
                json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": id, "name": "read", "input": { "path": "a" } }] }),
                json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": id, "content": "one line\nanother line" }] }),
            ]
        };
        let messages: Vec<Value> = (0..turns).flat_map(turn).collect();
        json!({ "model": "gpt-6.2-sol", "messages": messages, "stream": true, "max_tokens": 1000 })
    }
}

impl Measured for ollama::Chat {
    fn options() -> CommonOptions {
        CommonOptions { default_instructions: INSTRUCTIONS.to_owned(), token_limit: TokenLimit::Ignore }
    }

    fn request(turns: usize) -> Value {
        let call = json!({ "function": { "name": "read", "arguments": { "path": "a" } } });
        let turn = |_| {
            [
                json!({ "role": "user", "content": "Read the next file, \"please\"." }),
                json!({ "role": "assistant", "content": "", "tool_calls": [call] }),
                json!({ "role": "tool", "tool_name": "read", "content": "one line\nanother line" }),
            ]
        };
        let messages: Vec<Value> = (0..turns).flat_map(turn).collect();
        json!({ "model": "gpt-6.2-sol", "messages": messages })
    }
}

/// The event data of a complete response.
fn answer() -> Vec<Bytes> {
    let delta = |number: usize| {
        json!({ "type": "response.output_text.delta", "sequence_number": number + 3, "item_id": "msg_1", "output_index": 0,
            "content_index": 0, "delta": format!("word {number}\n"), "logprobs": [] })
    };
    let message = |status: &str| json!({ "id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [] });
    let response =
        |status: &str| json!({ "id": "resp_1", "object": "response", "status": status, "model": "m", "output": [] });
    let part = json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
    let opening = [
        json!({ "type": "response.created", "sequence_number": 0, "response": response("in_progress") }),
        json!({ "type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": message("in_progress") }),
        json!({ "type": "response.content_part.added", "sequence_number": 2, "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": part }),
    ];
    let closing = [
        json!({ "type": "response.output_item.done", "sequence_number": DELTAS + 3, "output_index": 0, "item": message("completed") }),
        json!({ "type": "response.completed", "sequence_number": DELTAS + 4, "response": response("completed") }),
    ];
    let events = opening.into_iter().chain((0..DELTAS).map(delta)).chain(closing);
    events.map(|event| Bytes::from(event.to_string())).collect()
}

/// The reply state machine of a short request in this dialect.
fn reply<D: Measured>() -> D::Reply {
    let (headers, models, warnings) = (HeaderMap::new(), Models::default(), Warnings::default());
    let mut context = Context {
        headers: &headers,
        key: None,
        path_model: None,
        commands: CommandHint::default(),
        models: &models,
        warnings,
    };
    let body = D::request(1).to_string();
    let request = D::decode(body.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    D::translate(request, &mut context, &D::options()).unwrap_or_else(|error| panic!("{error}")).reply
}

fn feed<R: Reply>(reply: &mut R, events: &[Bytes], sink: &mut impl Sink<R::Encoder>) {
    for data in events {
        reply.on_event(R::Upstream::from(std::str::from_utf8(data).unwrap_or_default()), sink);
    }
    assert!(reply.is_finished(), "the response is complete");
}

/// Bytes to events.
#[divan::bench]
fn split(bencher: Bencher) {
    let stream: Vec<u8> = answer().iter().flat_map(|data| [b"event: x\ndata: ", &data[..], b"\n\n"].concat()).collect();
    let stream = Bytes::from(stream);
    bencher.counter(ItemsCount::new(DELTAS)).bench(|| {
        let mut splitter = Splitter::new(1 << 20);
        splitter.push(black_box(&stream));
        std::iter::from_fn(|| splitter.next_event().ok().flatten()).count()
    });
}

/// Event data to an event.
#[divan::bench]
fn decode(bencher: Bencher) {
    let events = answer();
    bencher.counter(ItemsCount::new(DELTAS)).bench(|| {
        for data in &events {
            black_box(UpstreamEvent::decode(std::str::from_utf8(data).unwrap_or_default()));
        }
    });
}

/// Events to the client's bytes: decoded, processed, encoded.
#[divan::bench(types = [Chat, Responses, Messages, ollama::Chat])]
fn stream<D: Measured>(bencher: Bencher) {
    let events = answer();
    let fresh = || (reply::<D>(), BytesMut::with_capacity(1 << 20));
    bencher.counter(ItemsCount::new(DELTAS)).with_inputs(fresh).bench_values(|(mut reply, mut wire)| {
        feed(&mut reply, &events, &mut Wire(&mut wire));
        (reply, wire)
    });
}

/// Events to a document.
#[divan::bench(types = [Chat, Responses, Messages, ollama::Chat])]
fn fold<D: Measured>(bencher: Bencher) {
    let events = answer();
    bencher.counter(ItemsCount::new(DELTAS)).with_inputs(reply::<D>).bench_values(|mut reply| {
        feed(&mut reply, &events, &mut Fold);
        reply.document().map(|document| document.len()).ok()
    });
}

/// A request body to the upstream body.
#[divan::bench(types = [Chat, Responses, Messages, ollama::Chat], args = [1, 100, 1000])]
fn request<D: Measured>(bencher: Bencher, turns: usize) {
    let (headers, models, options) = (HeaderMap::new(), Models::default(), D::options());
    let body = D::request(turns).to_string();
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let warnings = Warnings::default();
        let mut context = Context {
            headers: &headers,
            key: None,
            path_model: None,
            commands: CommandHint::default(),
            models: &models,
            warnings,
        };
        let request = D::decode(black_box(body.as_bytes())).unwrap_or_else(|error| panic!("{error}"));
        let Plan { upstream, .. } =
            D::translate(request, &mut context, &options).unwrap_or_else(|error| panic!("{error}"));
        upstream.encode(&Omissions::new()).len()
    });
}
