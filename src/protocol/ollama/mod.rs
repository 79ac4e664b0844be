//! The Ollama API: `/api/chat` and `/api/generate`.
//!
//! [`request`] reads a body and [`translate`] converts it to the backend's request: `message` and `media` the
//! conversation, `options`, `think` and `tools` the rest. [`render`] converts the pieces of a reply to [`event`]s,
//! which a stream contains and from which a document is folded. [`error`] renders errors. In Ollama, a request without
//! a prompt loads or unloads the model. Here it gets a reply without a backend call, since the backend's models are
//! always loaded.

pub mod error;
pub mod event;
mod media;
mod message;
mod options;
pub mod render;
pub mod request;
mod think;
mod tools;
pub mod translate;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

pub use error::to_error_response;
pub use event::Line;
pub use render::{OllamaReply, RenderOptions, ReplyOptions};
pub use request::OllamaRequest;

use super::models::Models;
use super::{CommonOptions, Context, Dialect, Plan};
use crate::command_hint::CommandHint;
use crate::error::ProxyError;

/// The content type of a stream.
const NDJSON: &str = "application/x-ndjson";

/// The tag that clients append to a model name without a tag.
const DEFAULT_TAG: &str = ":latest";

/// The dialect of one endpoint. Both differ only in the form of requests and replies.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<const GENERATES: bool>;

/// The `/api/chat` dialect.
pub type Chat = Endpoint<false>;

/// The `/api/generate` dialect.
pub type Generate = Endpoint<true>;

/// The endpoint, which determines the form of requests and replies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`: `messages`, and a reply in `message`.
    #[default]
    Chat,
    /// `/api/generate`: `prompt`, and a reply in `response`.
    Generate,
}

/// Removes the default tag from a model name, unless the name with the tag is an alias.
#[must_use]
pub fn untagged<'n>(name: &'n str, models: &Models) -> &'n str {
    let name = name.trim();
    let bare = name.strip_suffix(DEFAULT_TAG).filter(|bare| !bare.is_empty());
    bare.filter(|_| !models.rules.aliases.contains_key(name)).unwrap_or(name)
}

impl<const GENERATES: bool> Dialect for Endpoint<GENERATES> {
    type Request<'a> = OllamaRequest<'a>;
    type Options = CommonOptions;
    type Reply = OllamaReply;

    const NAME: &'static str = "ollama";
    const STREAM_TYPE: &'static str = NDJSON;

    fn decode(body: &[u8]) -> Result<OllamaRequest<'_>, ProxyError> {
        request::decode(body, if GENERATES { Form::Generate } else { Form::Chat })
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &CommonOptions,
    ) -> Result<Plan<'a, OllamaReply>, ProxyError> {
        translate::translate(request, context, options)
    }

    fn to_error_response(
        error: &ProxyError,
        _request_id: &str,
        commands: CommandHint,
    ) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error, commands)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::untagged;
    use crate::protocol::models::{Models, Rules};

    #[test]
    fn the_default_tag_is_removed_unless_it_is_part_of_an_alias() {
        let aliases = BTreeMap::from([("llama3:latest".to_owned(), "gpt-5.4".to_owned())]);
        let models = Models { rules: Arc::new(Rules { aliases, ..Rules::default() }), ..Models::default() };
        for (name, expected) in [
            ("gpt-5.4:latest", "gpt-5.4"),
            (" gpt-5.4 ", "gpt-5.4"),
            ("gpt-5.4:high", "gpt-5.4:high"),
            ("llama3:latest", "llama3:latest"),
            (":latest", ":latest"),
        ] {
            assert_eq!(untagged(name, &models), expected);
        }
    }
}
