//! Reads the backend's replies, and joins them to the document of the Images API.
//!
//! The bytes of a single reply are forwarded unchanged, including unknown members. Several replies become one document
//! with all images and the sum of the usage; the other members are those of the first reply. The order of the images
//! has no meaning, since all have the same prompt.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::error::ProxyError;
use crate::protocol::codex::{JsonUsageSum, Usage};
use crate::protocol::json::raw_object::RawObject;

/// The members of a reply that an event repeats, and their names in the event, in the order of the event.
const DETAILS: [(&str, &str); 6] = [
    ("background", "background"),
    ("created", "created_at"),
    ("output_format", "output_format"),
    ("quality", "quality"),
    ("size", "size"),
    ("usage", "usage"),
];

/// A complete reply of the backend. The parts are slices of its bytes.
#[derive(Clone, Debug)]
pub struct ImageReply {
    body: Bytes,
    /// The JSON of the list `data`.
    data: Bytes,
    images: Vec<OutputImage>,
    /// The JSON of the members that an event repeats, under their names in the event.
    pub(super) details: Vec<(&'static str, Bytes)>,
    /// The JSON of `usage`.
    usage: Option<Bytes>,
}

/// An image of a reply.
#[derive(Clone, Debug)]
pub(super) struct OutputImage {
    /// The JSON of the element of `data`.
    element: Bytes,
    /// The JSON string with the base64 of the image.
    pub(super) base64: Bytes,
}

impl ImageReply {
    /// Reads a reply.
    ///
    /// # Errors
    /// [`ProxyError::Damaged`] if it isn't a JSON object with at least one image.
    pub fn parse(body: &Bytes) -> Result<Self, ProxyError> {
        let text = std::str::from_utf8(body).map_err(|_| damaged("it is not UTF-8"))?;
        let members = RawObject::parse(text).map_err(|_| damaged("it is not a JSON object"))?;
        let slice = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
        let present = |name: &str| members.get(name).filter(|raw| raw.get() != "null");
        let mut images = Vec::new();
        for element in members.list("data") {
            let base64 = RawObject::parse(element.get()).ok().and_then(|image| image.get("b64_json"));
            let base64 = base64.filter(|base64| base64.get().starts_with('"') && base64.get().len() > 2);
            let base64 = slice(base64.ok_or_else(|| damaged("an image has no 'b64_json'"))?);
            images.push(OutputImage { element: slice(element), base64 });
        }
        let (Some(data), false) = (present("data"), images.is_empty()) else {
            return Err(damaged("it has no image"));
        };
        let details = DETAILS.iter().filter_map(|(name, written)| Some((*written, slice(present(name)?)))).collect();
        let (data, usage) = (slice(data), present("usage").map(slice));
        Ok(Self { data, images, details, usage, body: body.clone() })
    }

    /// The images.
    pub(super) fn images(&self) -> &[OutputImage] {
        &self.images
    }

    /// The billed tokens, if the backend reports them.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        serde_json::from_slice(self.usage.as_ref()?).ok()
    }
}

/// Joins replies to one document, and returns its pieces.
#[must_use]
pub fn join(replies: &[ImageReply]) -> Vec<Bytes> {
    let Some((first, others)) = replies.split_first() else { return Vec::new() };
    if others.is_empty() {
        return vec![first.body.clone()];
    }
    let mut edits = vec![(&first.data, joined_data(replies))];
    if let Some(usage) = &first.usage {
        edits.push((usage, vec![summed_usage(replies)]));
    }
    let start = first.body.as_ptr().addr();
    let offset = |part: &Bytes| part.as_ptr().addr() - start;
    edits.sort_by_key(|(part, _)| offset(part));
    let (mut pieces, mut at) = (Vec::new(), 0);
    for (part, with) in edits {
        pieces.push(first.body.slice(at..offset(part)));
        pieces.extend(with);
        at = offset(part) + part.len();
    }
    pieces.push(first.body.slice(at..));
    pieces
}

/// The pieces of a list of all images.
fn joined_data(replies: &[ImageReply]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for image in replies.iter().flat_map(ImageReply::images) {
        pieces.push(Bytes::from_static(if pieces.is_empty() { b"[" } else { b"," }));
        pieces.push(image.element.clone());
    }
    pieces.push(Bytes::from_static(b"]"));
    pieces
}

fn summed_usage(replies: &[ImageReply]) -> Bytes {
    let mut sum = JsonUsageSum::default();
    for usage in replies.iter().filter_map(|reply| reply.usage.as_ref()) {
        if let Ok(usage) = serde_json::from_slice::<&RawValue>(usage) {
            sum.add(usage);
        }
    }
    sum.json().unwrap_or_else(|| "null".to_owned()).into()
}

fn damaged(reason: &str) -> ProxyError {
    ProxyError::Damaged { reason: format!("{reason} (reply of the image endpoint)") }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{ImageReply, join};
    use crate::error::ProxyError;

    fn reply(image: &str, tokens: u64) -> ImageReply {
        let usage = json!({"input_tokens": 2, "input_tokens_details": {"text_tokens": 2, "image_tokens": 0}, "output_tokens": tokens, "total_tokens": 2 + tokens});
        let body = format!(
            r#"{{ "created":17, "data" : [ {{"b64_json":"{image}","new":1}} ],"background":"opaque","usage":{usage},"size":"8x8"}}"#
        );
        ImageReply::parse(&body.into()).unwrap()
    }

    fn text(pieces: &[Bytes]) -> String {
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[test]
    fn a_single_reply_keeps_its_bytes() {
        let one = reply("AAAA", 5);
        let pieces = join(std::slice::from_ref(&one));
        assert_eq!(pieces, std::slice::from_ref(&one.body));
        assert_eq!(pieces[0].as_ptr(), one.body.as_ptr(), "not copied");
        assert_eq!(one.usage().unwrap().total_tokens, 7);
    }

    #[test]
    fn several_replies_are_joined_and_their_usage_is_summed() {
        let replies = [reply("AAAA", 5), reply("BBBB", 6), reply("CCCC", 7)];
        let pieces = join(&replies);
        let joined: Value = serde_json::from_str(&text(&pieces)).unwrap();
        let images = ["AAAA", "BBBB", "CCCC"].map(|data| json!({"b64_json": data, "new": 1}));
        let usage = json!({"input_tokens": 6, "input_tokens_details": {"text_tokens": 6, "image_tokens": 0}, "output_tokens": 18, "total_tokens": 24});
        let expected = json!({"created": 17, "data": images, "background": "opaque", "usage": usage, "size": "8x8"});
        assert_eq!(joined, expected);
        let second = replies[1].images()[0].element.as_ptr();
        assert!(pieces.iter().any(|piece| piece.as_ptr() == second), "an image is not copied");
    }

    #[test]
    fn a_reply_without_usage_has_none_in_the_document() {
        let bare = ImageReply::parse(&Bytes::from_static(br#"{"data":[{"b64_json":"AAAA"}],"usage":null}"#)).unwrap();
        assert_eq!(
            text(&join(&[bare.clone(), bare])),
            r#"{"data":[{"b64_json":"AAAA"},{"b64_json":"AAAA"}],"usage":null}"#
        );
    }

    #[test]
    fn a_reply_without_an_image_is_damaged() {
        for body in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"data":null}"#,
            r#"{"data":[]}"#,
            r#"{"data":[{}]}"#,
            r#"{"data":[{"b64_json":""}]}"#,
            r#"{"data":[{"b64_json":1}]}"#,
            r#"{"data":[{"b64_json":"AAAA"},{"url":"x"}]}"#,
            r#"{"data":[{"b64_json":"AAAA"}"#,
        ] {
            let parsed = ImageReply::parse(&Bytes::copy_from_slice(body.as_bytes()));
            assert!(matches!(parsed, Err(ProxyError::Damaged { .. })), "{body}");
        }
    }
}
