//! The events of a streaming image request: one for each complete image, in OpenAI's form.
//!
//! The backend sends no partial images. While it generates one, the server sends comments, so that the connection isn't
//! closed as idle.

use bytes::Bytes;

use super::Operation;
use super::document::ImageReply;
use crate::command_hint::CommandHint;
use crate::error::ProxyError;
use crate::protocol::json::compact;
use crate::protocol::openai;

/// The comment that keeps an idle connection open.
pub const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// Returns the pieces of the events for the images of a reply. Each event has the usage of the whole reply.
#[must_use]
pub fn completed(operation: Operation, reply: &ImageReply) -> Vec<Bytes> {
    let kind = operation.event_type();
    let head = Bytes::from(format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"b64_json\":"));
    let mut tail = String::new();
    for (name, json) in &reply.details {
        let json = std::str::from_utf8(json).unwrap_or("null");
        tail.extend([",\"", name, "\":", &compact(json)]);
    }
    tail.push_str("}\n\n");
    let tail = Bytes::from(tail);
    reply.images().iter().flat_map(|image| [head.clone(), image.base64.clone(), tail.clone()]).collect()
}

/// The event that ends a stream that failed.
#[must_use]
pub fn failed(error: &ProxyError, commands: CommandHint) -> Bytes {
    let mut event = b"event: error\ndata: ".to_vec();
    event.extend(openai::error::frame(error, commands));
    event.extend_from_slice(b"\n\n");
    event.into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{completed, failed};
    use crate::command_hint::CommandHint;
    use crate::error::{ProxyError, Refusal};
    use crate::protocol::images::{ImageReply, Operation};

    #[test]
    fn an_event_has_the_image_and_the_values_of_the_reply() {
        let body = "{\"created\":17,\"data\":[{\"b64_json\":\"AA\\/A\"},{\"b64_json\":\"BBBB\"}],\"size\":\"8x8\",\"new\":1,\"usage\":{\n \"total_tokens\": 7 }}";
        let reply = ImageReply::parse(&Bytes::from_static(body.as_bytes())).unwrap();
        for (operation, kind) in
            [(Operation::Generation, "image_generation.completed"), (Operation::Edit, "image_edit.completed")]
        {
            let text = String::from_utf8(completed(operation, &reply).concat()).unwrap();
            let events: Vec<&str> = text.split_terminator("\n\n").collect();
            for (event, image) in events.iter().zip(["AA/A", "BBBB"]) {
                let data = event.strip_prefix(&format!("event: {kind}\ndata: ")).unwrap();
                let expected = json!({"type": kind, "b64_json": image, "created_at": 17, "size": "8x8", "usage": {"total_tokens": 7}});
                assert_eq!(serde_json::from_str::<Value>(data).unwrap(), expected);
            }
            assert_eq!(events.len(), 2);
        }
    }

    #[test]
    fn a_failure_is_an_error_event() {
        let ProxyError::Refused(_) = Refusal::body("no") else { panic!("a refusal") };
        let text = String::from_utf8(failed(&Refusal::body("no"), CommandHint::default()).to_vec()).unwrap();
        let data = text.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
        assert_eq!(serde_json::from_str::<Value>(data).unwrap()["error"]["message"], "no");
    }
}
