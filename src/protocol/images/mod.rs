//! OpenAI's Images API: images from a prompt, and edits of images.
//!
//! [`request`] reads a JSON body or a form, [`translate`] writes the backend's request, and [`document`] and [`event`]
//! convert the backend's replies, one for each image. An image's base64 is never decoded: the pieces of a document
//! or an event are slices of the reply.

pub mod document;
pub mod event;
pub mod request;
pub mod translate;

pub use document::ImageReply;
pub use request::{ImageRequest, InputImage};

/// The kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// New images.
    Generation,
    /// Changed versions of the client's images.
    Edit,
}

impl Operation {
    /// The path of the backend's endpoint below its base URL.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Generation => "/images/generations",
            Self::Edit => "/images/edits",
        }
    }

    /// The type of the stream event for a complete image.
    #[must_use]
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Generation => "image_generation.completed",
            Self::Edit => "image_edit.completed",
        }
    }
}
