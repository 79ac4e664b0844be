//! Image generation: the function `image_gen.imagegen`, its requests to `images/generations`, and the items that
//! clients see.
//!
//! The names and the request are those of the official client (capture `side-images-generations`). Only the client gets
//! the image; the output for the model is a short text.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::json::constant;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::RawText;

pub(super) const NAMESPACE: &str = "image_gen";
pub(super) const FUNCTION: &str = "imagegen";
/// The path of the endpoint, below the base URL.
pub(super) const PATH: &str = "/images/generations";
/// The value of settings that neither the client nor the model sets.
const AUTO: &str = "auto";
/// Members of the client's tool that apply to each image.
pub(super) const SETTINGS: [&str; 3] = ["background", "quality", "size"];
/// Text output of an image call.
pub(super) const OUTPUT: &str = "The image was generated, and the user sees it. Don't describe it in detail.";

/// The client's settings of the hosted tool, in the order of [`SETTINGS`]. They take precedence over the model's.
#[derive(Clone, Debug)]
pub struct ImageSettings([Option<String>; 3]);

/// A generated image. The base64 is a slice of the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedImage {
    /// Base64, as in the JSON of the response: escaped, without quotes.
    base64: Bytes,
    /// Further members of the client's item, as JSON with a leading comma: the settings that the backend used.
    members: String,
}

#[derive(Serialize)]
struct ImageBody<'i> {
    prompt: &'i str,
    background: &'i str,
    model: &'i str,
    quality: &'i str,
    size: &'i str,
}

#[derive(Deserialize)]
struct ImageResponse<'a> {
    #[serde(borrow)]
    data: Vec<ImageWire<'a>>,
    #[serde(borrow, default)]
    output_format: Option<RawText<'a>>,
    #[serde(borrow, default)]
    background: Option<RawText<'a>>,
    #[serde(borrow, default)]
    quality: Option<RawText<'a>>,
    #[serde(borrow, default)]
    size: Option<RawText<'a>>,
}

#[derive(Deserialize)]
struct ImageWire<'a> {
    #[serde(borrow)]
    b64_json: RawText<'a>,
}

impl ImageSettings {
    /// Reads the members of a hosted `image_generation` tool.
    pub(super) fn read(tool: &RawObject<'_>) -> Self {
        Self(SETTINGS.map(|name| tool.text(name).filter(|value| value != AUTO).map(Cow::into_owned)))
    }

    /// The body of the request to this model for a call with these arguments.
    ///
    /// # Errors
    /// If there is no prompt.
    pub(super) fn body(&self, model: &str, arguments: &RawObject<'_>) -> Result<Bytes, String> {
        let prompt = arguments.text("prompt").filter(|prompt| !prompt.trim().is_empty());
        let prompt = prompt.ok_or_else(|| "the argument 'prompt' is missing".to_owned())?;
        let mut chosen = SETTINGS.iter().zip(&self.0).map(|(name, setting)| match setting {
            Some(setting) => Cow::Borrowed(setting.as_str()),
            None => arguments.text(name).unwrap_or(Cow::Borrowed(AUTO)),
        });
        let mut next = || chosen.next().unwrap_or(Cow::Borrowed(AUTO));
        let (background, quality, size) = (next(), next(), next());
        let body = ImageBody { prompt: &prompt, background: &background, model, quality: &quality, size: &size };
        Ok(serde_json::to_vec(&body).expect("strings always serialize").into())
    }
}

impl GeneratedImage {
    /// Reads the endpoint's response; `None` if it has no image.
    pub(super) fn read(body: &Bytes) -> Option<Self> {
        let response: ImageResponse<'_> = serde_json::from_slice(body).ok()?;
        let base64 = response.data.first()?.b64_json;
        let given = [
            ("output_format", response.output_format),
            ("background", response.background),
            ("quality", response.quality),
            ("size", response.size),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some(format!(r#","{name}":"{}""#, value?.escaped())));
        let members = given.collect::<Vec<_>>().concat();
        (!base64.is_empty()).then(|| Self { base64: body.slice_ref(base64.escaped().as_bytes()), members })
    }

    /// The size of the base64.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.base64.len()
    }

    /// The members of the client's item after its status, except the result: JSON with a leading comma.
    pub(super) fn item_members(&self) -> String {
        format!(r#"{},"revised_prompt":null"#, self.members)
    }

    /// The base64, as the contents of a JSON string.
    pub(super) fn base64(&self) -> &str {
        std::str::from_utf8(&self.base64).expect("a slice of a string is UTF-8")
    }
}

/// The namespace that is offered to the model.
pub(super) fn definition() -> &'static RawValue {
    constant(DEFINITION)
}

const DEFINITION: &str = concat!(
    r#"{"type":"namespace","name":"image_gen","description":"Tools for making images.","tools":[{"type":"function","name":"imagegen","#,
    r#""description":"Generates an image from a description. The user sees it directly.","#,
    r#""strict":false,"parameters":{"type":"object","properties":{"#,
    r#""prompt":{"type":"string","description":"A complete description of the image."},"#,
    r#""size":{"type":"string","description":"auto, or width and height in pixels, such as 1024x1536."},"#,
    r#""quality":{"type":"string","enum":["low","medium","high","auto"]},"#,
    r#""background":{"type":"string","enum":["transparent","opaque","auto"]}},"required":["prompt"]}}]}"#,
);
