//! A Gemini reply as one document, folded from the chunks of the stream.

use bytes::{BufMut, Bytes, BytesMut};

use super::event::{Chunk, Part, PartContent, put};

/// The document so far.
#[derive(Debug, Default)]
pub(super) struct DocumentDraft {
    parts: Vec<DraftPart>,
    /// The members of the candidate after its content, and the usage; rendered.
    end: Option<(String, String)>,
}

#[derive(Debug)]
enum DraftPart {
    /// Text, escaped, which later chunks may continue.
    Text { is_thought: bool, text: String, signature: Option<String> },
    /// Another part, rendered.
    Json(BytesMut),
}

impl DocumentDraft {
    pub(super) fn absorb(&mut self, chunk: &Chunk<'_>) {
        match chunk {
            Chunk::Part(part) => self.add(part),
            Chunk::End(end) => self.end = Some((end.candidate_members(), end.usage_metadata())),
            Chunk::ArrayStart | Chunk::Failed(_) => {}
        }
    }

    /// Adds a part. Text continues the part before it if that has the same kind; a signature begins a new one.
    fn add(&mut self, part: &Part<'_>) {
        let (is_next_thought, piece) = match part.content {
            PartContent::Text(text) => (false, text),
            PartContent::Thought(text) => (true, text),
            PartContent::Call { .. } | PartContent::Image { .. } => {
                let mut json = BytesMut::new();
                part.write(&mut json);
                return self.parts.push(DraftPart::Json(json));
            }
        };
        match self.parts.last_mut() {
            Some(DraftPart::Text { is_thought, text, .. })
                if *is_thought == is_next_thought && part.signature.is_none() =>
            {
                text.push_str(piece);
            }
            _ => self.parts.push(DraftPart::Text {
                is_thought: is_next_thought,
                text: piece.to_owned(),
                signature: part.signature.map(str::to_owned),
            }),
        }
    }

    /// The document. `tail` has the members that chunks end with.
    pub(super) fn render(&self, tail: &str) -> Bytes {
        let mut json = BytesMut::new();
        json.put_slice(br#"{"candidates":[{"content":{"parts":["#);
        if self.parts.is_empty() {
            // As in a stream, where the last chunk has an empty text.
            Part { content: PartContent::Text(""), signature: None }.write(&mut json);
        }
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                json.put_u8(b',');
            }
            part.write(&mut json);
        }
        let (members, usage) = self.end.as_ref().map_or(("", "{}"), |(members, usage)| (members, usage));
        put(&[r#"],"role":"model"}"#, members, r#","index":0}],"usageMetadata":"#, usage, tail], &mut json);
        json.freeze()
    }
}

impl DraftPart {
    fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Text { is_thought, text, signature } => {
                let content = if *is_thought { PartContent::Thought(text) } else { PartContent::Text(text) };
                Part { content, signature: signature.as_deref() }.write(out);
            }
            Self::Json(json) => out.put_slice(json),
        }
    }
}
