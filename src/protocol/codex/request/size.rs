//! Visits the content of a request, to measure it: for the character count, the token estimate
//! ([`tokens::of_request`](crate::protocol::tokens::of_request)) and the size of the body buffer.

use serde_json::value::RawValue;

use super::{Item, Output, Part, Request};
use crate::protocol::json::input_text::JsonText;

/// In longer JSON literals, the characters of an escape are counted, because decoding would take too long.
const MAX_DECODED_BYTES: usize = 64 * 1024;

/// A piece of a request's content.
#[derive(Clone, Copy, Debug)]
pub enum Content<'r> {
    /// The system prompt.
    Instructions(&'r str),
    /// The start of an input item. Its content follows.
    Item,
    /// The name of a called tool.
    CallName(&'r str),
    /// Text of a message, or the arguments, input or output of a tool call.
    Text(&'r JsonText<'r>),
    /// The URL of an image, which may contain its data.
    Image(&'r JsonText<'r>),
    /// A data URL of a file.
    File(&'r JsonText<'r>),
    /// The URL of a file.
    FileUrl(&'r str),
    /// An item that is sent byte for byte.
    RawItem(&'r RawValue),
    /// The JSON of a tool.
    Tool(&'r RawValue),
    /// The JSON of the output format.
    Format(&'r RawValue),
}

impl Request<'_> {
    /// Calls `visitor` with each piece of content, in this order: instructions, input, tools, output format.
    pub fn visit<'r>(&'r self, visitor: &mut impl FnMut(Content<'r>)) {
        visitor(Content::Instructions(&self.instructions));
        self.input.iter().for_each(|item| visit_item(item, visitor));
        self.tools.iter().for_each(|tool| visitor(Content::Tool(tool.json())));
        let format = self.text.as_ref().and_then(|text| text.format.as_deref());
        if let Some(format) = format.or_else(|| self.extra.text.get("format")) {
            visitor(Content::Format(format));
        }
    }

    /// Approximate number of characters that the model reads as text. Images, files, raw items and the output format
    /// don't count.
    #[must_use]
    pub fn characters(&self) -> usize {
        // The tools count as a JSON array: two brackets, and a comma between elements.
        let mut characters = self.tools.len().saturating_sub(1) + 2;
        self.visit(&mut |content| {
            characters += match content {
                Content::Instructions(text) | Content::CallName(text) => text.chars().count(),
                Content::Text(text) => match text.escaped() {
                    Some(escaped) if escaped.len() > MAX_DECODED_BYTES => escaped.chars().count(),
                    _ => text.read().chars().count(),
                },
                Content::Tool(json) => json.get().chars().count(),
                _ => 0,
            }
        });
        characters
    }

    /// Approximate length of the encoded body in bytes.
    #[must_use]
    pub fn written_bytes(&self) -> usize {
        const BODY_FRAME: usize = 512;
        const ITEM_FRAME: usize = 160;
        const PART_FRAME: usize = 64;
        let mut bytes = BODY_FRAME;
        self.visit(&mut |content| {
            bytes += match content {
                // Some characters are escaped.
                Content::Instructions(text) => text.len() * 17 / 16,
                Content::Item => ITEM_FRAME,
                Content::CallName(text) => text.len(),
                Content::FileUrl(url) => PART_FRAME + url.len(),
                Content::Text(text) | Content::Image(text) | Content::File(text) => PART_FRAME + text.written_bytes(),
                Content::RawItem(json) | Content::Tool(json) | Content::Format(json) => 1 + json.get().len(),
            }
        });
        bytes
    }
}

fn visit_item<'r>(item: &'r Item<'_>, visitor: &mut impl FnMut(Content<'r>)) {
    visitor(Content::Item);
    match item {
        Item::Message { content, .. } => visit_parts(content, visitor),
        Item::FunctionCall { name, arguments: text, .. } | Item::CustomToolCall { name, input: text, .. } => {
            visitor(Content::CallName(name));
            visitor(Content::Text(text));
        }
        Item::FunctionCallOutput { output, .. } | Item::CustomToolCallOutput { output, .. } => match output {
            Output::Text(text) => visitor(Content::Text(text)),
            Output::Parts(parts) => visit_parts(parts, visitor),
        },
        Item::Raw { json, .. } => visitor(Content::RawItem(json)),
    }
}

fn visit_parts<'r>(parts: &'r [Part<'_>], visitor: &mut impl FnMut(Content<'r>)) {
    for part in parts {
        visitor(match part {
            Part::InputText(text) | Part::OutputText(text) => Content::Text(text),
            Part::InputImage { image_url, .. } => Content::Image(image_url),
            Part::InputFile { file_data, .. } => Content::File(file_data),
            Part::RemoteFile { file_url } => Content::FileUrl(file_url),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Item, Output, Part, Request};
    use crate::protocol::codex::WireFormat;
    use crate::protocol::codex::request::{ExtraMembers, Omissions, Reasoning, Role, Tool, ToolChoice};

    fn request<'a>(input: Vec<Item<'a>>, tools: Vec<Tool<'a>>) -> Request<'a> {
        Request {
            format: WireFormat::Classic,
            model: "m".into(),
            instructions: "Grüße".into(),
            input,
            tools,
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            reasoning: Reasoning { effort: None, summary: None },
            text: None,
            service_tier: None,
            prompt_cache_key: "".into(),
            extra: ExtraMembers::default(),
        }
    }

    #[test]
    fn characters_are_those_of_instructions_tools_and_texts() {
        assert_eq!(request(Vec::new(), Vec::new()).characters(), "Grüße[]".chars().count());
        let schema: &RawValue = serde_json::from_str(r#"{"type":"object"}"#).unwrap();
        let tools = || vec![Tool::function("f", Some("é\n"), schema, false), Tool::function("g", None, schema, true)];
        let tools_json = serde_json::to_string(&tools()).unwrap();
        let image = Part::InputImage { image_url: "data:,".into(), detail: "auto".into() };
        let input = vec![
            Item::Message { role: Role::User, content: vec![Part::InputText("übe".into()), image] },
            Item::FunctionCall { call_id: "c".into(), name: "f".into(), arguments: "{}".into() },
            Item::FunctionCallOutput { call_id: "c".into(), output: Output::Text("3".into()) },
        ];
        let expected = ["Grüße", &tools_json, "übe", "f", "{}", "3"].concat();
        assert_eq!(request(input, tools()).characters(), expected.chars().count());
    }

    #[test]
    fn an_encoded_body_fits_its_buffer() {
        let text = "a long text with \"quotes\" and\nlines".repeat(1000);
        let raw = format!(r#"{{"type":"reasoning","encrypted_content":"{}"}}"#, "A".repeat(10_000));
        let raw = RawValue::from_string(raw).unwrap();
        let input = (0..100).map(|_| Item::Raw { kind: "reasoning".into(), json: std::borrow::Cow::Borrowed(&*raw) });
        let message = Item::Message { role: Role::User, content: vec![Part::InputText(text.as_str().into())] };
        let schema: &RawValue = serde_json::from_str(r#"{"type":"object"}"#).unwrap();
        let tools = (0..100).map(|_| Tool::function("f", None, schema, false)).collect();
        let request = request(input.chain([message]).collect(), tools);
        let body = request.encode(&Omissions::new());
        let bytes = request.written_bytes();
        assert!((body.len()..body.len() * 11 / 10).contains(&bytes), "{bytes} for {}", body.len());
    }
}
