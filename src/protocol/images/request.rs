//! Reads an image request: a JSON body, or the text parts of a form as JSON together with its files.
//!
//! Unsupported members are ignored with a warning if they are hints, and refused if the client would get another image
//! than it requested.

use std::borrow::Cow;

use super::Operation;
use crate::error::{ProxyError, Refusal};
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::protocol::form::{self, FormFields, FormPart};
use crate::protocol::json::input_text::JsonText;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::upstream_input::base64::without_white_space;
use crate::protocol::upstream_input::parameters;
use crate::protocol::{Mode, Warnings};

/// Maximum number of images per request. The public API allows 10; the backend needs up to two minutes for each.
pub const MAX_IMAGES: u64 = 4;
/// Maximum number of images that an edit starts from.
pub const MAX_INPUT_IMAGES: usize = 16;
/// The fields of an edit.
const FORM: FormFields = FormFields {
    files: &["image", "images", "mask", "markup"],
    texts: &[
        "prompt",
        "model",
        "background",
        "quality",
        "size",
        "output_format",
        "response_format",
        "moderation",
        "input_fidelity",
        "style",
    ],
    scalars: &["n", "stream", "output_compression", "partial_images"],
};

/// A decoded request, borrowing from the body.
#[derive(Clone, Debug)]
pub struct ImageRequest<'a> {
    pub(super) operation: Operation,
    pub(super) prompt: JsonText<'a>,
    pub(super) background: Cow<'a, str>,
    pub(super) quality: Cow<'a, str>,
    pub(super) size: Cow<'a, str>,
    pub(super) images: Vec<InputImage<'a>>,
    /// The model as the client named it in the body, or else in the URL.
    model: Option<Cow<'a, str>>,
    has_response_format: bool,
    /// The number of images.
    pub count: u64,
    /// Whether the client wants a stream.
    pub mode: Mode,
    /// Members that were ignored or changed.
    pub warnings: Warnings,
}

/// An image that an edit starts from.
#[derive(Clone, Debug)]
pub enum InputImage<'a> {
    /// A data URL, or the address of an image.
    Url(JsonText<'a>),
    /// An uploaded file.
    File {
        /// `image/png`, `image/jpeg` or `image/webp`.
        content_type: &'static str,
        /// The content of the file.
        data: &'a [u8],
    },
}

/// Reads a request. `path_model` is the model that the URL names, such as an Azure deployment. The client can't leave
/// it out, so any name is accepted there.
///
/// # Errors
/// If the body is not a JSON object, a member is missing or invalid, or the request needs something that the backend
/// doesn't support.
pub fn decode<'a>(
    operation: Operation,
    body: &'a [u8],
    path_model: Option<&'a str>,
) -> Result<ImageRequest<'a>, ProxyError> {
    let request = ImageRequest::read_members(operation, body)?;
    if operation == Operation::Edit && request.images.is_empty() {
        return Err(Refusal::missing("images"));
    }
    request.checked(path_model, "images")
}

/// Converts the text parts of a form to JSON, for [`decode_form`].
///
/// # Errors
/// If a text is too long or not UTF-8.
pub fn form_members(parts: &[FormPart]) -> Result<String, ProxyError> {
    form::to_json(parts, &FORM)
}

/// Reads a request for an edit from a form; `members` is the result of [`form_members`].
///
/// # Errors
/// As [`decode`]; if a file is not an image of a supported type.
pub fn decode_form<'a>(
    parts: &'a [FormPart],
    members: &'a str,
    path_model: Option<&'a str>,
) -> Result<ImageRequest<'a>, ProxyError> {
    let mut request = ImageRequest::read_members(Operation::Edit, members.as_bytes())?;
    for part in parts.iter().filter(|part| FORM.files.contains(&part.field())) {
        match part.field() {
            name @ ("mask" | "markup") => return Err(unsupported_selection(name)),
            _ => request.images.push(uploaded(part)?),
        }
    }
    if request.images.is_empty() {
        return Err(Refusal::missing("image"));
    }
    request.checked(path_model, "image")
}

impl<'a> ImageRequest<'a> {
    fn read_members(operation: Operation, body: &'a [u8]) -> Result<Self, ProxyError> {
        let members = RawObject::from_body(body)?;
        let auto = || Cow::Borrowed("auto");
        let mut request = Self {
            operation,
            prompt: JsonText::default(),
            background: auto(),
            quality: auto(),
            size: auto(),
            images: Vec::new(),
            model: None,
            has_response_format: false,
            count: 1,
            mode: Mode::Document,
            warnings: Warnings::default(),
        };
        for (name, field) in members.fields() {
            request.read(name, &field)?;
        }
        Ok(request)
    }

    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "prompt" => self.prompt = field.json_text()?,
            "model" => self.model = Some(field.text()?),
            "n" => self.count = count(field)?,
            "stream" => self.mode = parameters::mode(field)?,
            "background" => self.background = one_of(field, &["auto", "opaque", "transparent"])?,
            "quality" => self.quality = quality(field, &mut self.warnings)?,
            "size" => self.size = size(field)?,
            "images" if self.operation == Operation::Edit => self.images = input_images(field)?,
            "image" | "images" => return Err(self.misplaced_image(name)),
            "mask" | "markup" => return Err(unsupported_selection(name)),
            "svg" => {
                return Err(Refusal::unsupported_parameter(name, "this backend generates no SVG; leave out 'svg'"));
            }
            "output_format" => match &*field.text()? {
                "png" => {}
                // Only the encoding of the image differs, and the response reports it.
                "jpeg" | "webp" => self.warnings.ignored(name),
                _ => return Err(unsupported_format(field)),
            },
            "response_format" => {
                self.has_response_format = true;
                if one_of(field, &["b64_json", "url"])? == "url" {
                    self.warnings.note("clamped:response_format");
                }
            }
            _ => {
                if is_ignored(name, field)? {
                    self.warnings.ignored(name);
                }
            }
        }
        Ok(())
    }

    /// Checks rules that involve several members. `images` is the name of the member with the images, for errors.
    fn checked(mut self, path_model: Option<&'a str>, images: &str) -> Result<Self, ProxyError> {
        if self.prompt.is_blank() {
            return Err(Refusal::missing("prompt"));
        }
        if self.images.len() > MAX_INPUT_IMAGES {
            let message = format!("an edit can start from at most {MAX_INPUT_IMAGES} images");
            return Err(Refusal::coded("array_above_max_length", images, message));
        }
        self.check_model(path_model)?;
        if !self.has_response_format && self.model.as_deref().is_some_and(|model| model.starts_with("dall-e-")) {
            // The public API returns a URL for these models by default.
            self.warnings.note("clamped:response_format");
        }
        Ok(self)
    }

    fn check_model(&mut self, path_model: Option<&'a str>) -> Result<(), ProxyError> {
        match self.model.as_deref().filter(|model| !model.is_empty()) {
            None => self.model = path_model.map(Cow::Borrowed),
            Some(model) if !is_image_model(model) && Some(model) != path_model => {
                let message = format!(
                    "'{}' is not an image model; leave out 'model', or use a name such as 'gpt-image-2' (the backend \
                     chooses the model itself)",
                    excerpt(model, NAME_CHARACTERS)
                );
                return Err(Refusal::invalid("model", message));
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// The error for an image in a JSON member that this operation doesn't have.
    fn misplaced_image(&self, name: &str) -> ProxyError {
        Refusal::unsupported_parameter(
            name,
            match self.operation {
                Operation::Generation => {
                    format!("a generation starts from no image; leave out '{name}', or send it to /v1/images/edits")
                }
                Operation::Edit => {
                    format!("'{name}' is a field of a form; in JSON, send 'images' as a list of objects")
                }
            },
        )
    }

    /// Adds a warning if the client requested another model than `sent`, which the backend gets.
    pub(super) fn note_model(&mut self, sent: &str) {
        if self.model.as_deref().is_some_and(|model| ![sent, "default", ""].contains(&model)) {
            self.warnings.note("clamped:model");
        }
    }
}

/// Whether a name is one of OpenAI's image models, of any release.
fn is_image_model(name: &str) -> bool {
    name == "default" || ["gpt-image-", "chatgpt-image-", "dall-e-"].iter().any(|start| name.starts_with(start))
}

fn count(field: &Field<'_, '_>) -> Result<u64, ProxyError> {
    let count = field.whole_number().filter(|count| (1..=MAX_IMAGES).contains(count));
    count.ok_or_else(|| field.invalid(&format!("must be a number of images from 1 to {MAX_IMAGES}")))
}

/// Reads a string that must have one of these values.
fn one_of<'a>(field: &Field<'a, '_>, values: &[&str]) -> Result<Cow<'a, str>, ProxyError> {
    let value = field.text()?;
    if values.contains(&&*value) { Ok(value) } else { Err(field.invalid(&format!("must be {}", values.join(", ")))) }
}

/// Reads the quality. Values that the backend doesn't support are replaced with the nearest supported one.
fn quality<'a>(field: &Field<'a, '_>, warnings: &mut Warnings) -> Result<Cow<'a, str>, ProxyError> {
    let quality = one_of(field, &["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"])?;
    let nearest = match &*quality {
        "xhigh" | "max" | "hd" => "high",
        "standard" => "auto",
        _ => return Ok(quality),
    };
    warnings.note("clamped:quality");
    Ok(Cow::Borrowed(nearest))
}

/// Reads the size: `auto`, or width and height.
fn size<'a>(field: &Field<'a, '_>) -> Result<Cow<'a, str>, ProxyError> {
    let size = field.text()?;
    let is_length = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if size == "auto" || size.split_once('x').is_some_and(|(width, height)| is_length(width) && is_length(height)) {
        return Ok(size);
    }
    Err(field.invalid("must be auto, or width and height such as 1024x1536"))
}

/// Reads `images` of a JSON body: a list of objects with an `image_url`.
fn input_images<'a>(field: &Field<'a, '_>) -> Result<Vec<InputImage<'a>>, ProxyError> {
    field.each(|element| {
        let members = element.object()?;
        if let Some(id) = element.member(&members, "file_id") {
            let message = "this backend can't read uploaded files; send the image as a data URL in 'image_url'";
            return Err(Refusal::unsupported_parameter(id.to_string(), message));
        }
        let url = element.required(&members, "image_url")?;
        let text = without_white_space(url.json_text()?);
        if ["data:image/", "https://", "http://"].iter().any(|start| text.starts_with(start)) {
            return Ok(InputImage::Url(text));
        }
        Err(url.invalid("must be a data URL such as 'data:image/png;base64,…'"))
    })
}

/// Reads an uploaded image. The content decides its type, else the declared content type.
fn uploaded(part: &FormPart) -> Result<InputImage<'_>, ProxyError> {
    let data = &*part.data;
    let content_type = match data {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [] => None,
        _ => match part.content_type.as_deref() {
            Some("image/png") => Some("image/png"),
            Some("image/jpeg" | "image/jpg") => Some("image/jpeg"),
            Some("image/webp") => Some("image/webp"),
            _ => None,
        },
    };
    match content_type {
        Some(content_type) => Ok(InputImage::File { content_type, data }),
        None => Err(Refusal::invalid("image", "'image' must be a PNG, JPEG or WebP file")),
    }
}

/// The error for a member that selects the part of an image to change.
fn unsupported_selection(name: &str) -> ProxyError {
    let message = format!(
        "this backend doesn't support '{name}'; leave it out, and describe in the prompt of an edit \
         (/v1/images/edits) what to change"
    );
    Refusal::unsupported_parameter(name, message)
}

fn unsupported_format(field: &Field<'_, '_>) -> ProxyError {
    let format = field.to_string();
    let message = format!("'{format}' must be png, jpeg or webp (this backend generates no animations and no SVG)");
    Refusal::unsupported_value(format, message)
}

/// Whether an unsupported member is reported as ignored. Default values and members that can't change the image aren't.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    match name {
        "user" | "safety_identifier" | "metadata" => Ok(false),
        "moderation" => Ok(one_of(field, &["auto", "low"])? != "auto"),
        "output_compression" => Ok(number_up_to(field, 100)? != 100),
        "partial_images" => Ok(number_up_to(field, 3)? != 0),
        "input_fidelity" => one_of(field, &["low", "high"]).map(|_| true),
        "style" => one_of(field, &["vivid", "natural"]).map(|_| true),
        _ => Ok(true),
    }
}

fn number_up_to(field: &Field<'_, '_>, most: u64) -> Result<u64, ProxyError> {
    let number = field.whole_number().filter(|number| *number <= most);
    number.ok_or_else(|| field.invalid(&format!("must be a whole number from 0 to {most}")))
}

#[cfg(test)]
mod tests;
