//! Ollama's API, to the backend and back: conversations (`/api/chat`) and single prompts
//! (`/api/generate`).
//!
//! Both are one dialect with two forms, told apart by [`Form`]. The way there: [`request`] reads a
//! body, with `options`, `message`, `picture` and `tools` for its parts; [`translate`] turns it into
//! the upstream's form. Replies: [`render`] renders the pieces of a reply, [`event`] encodes them, [`error`] encodes
//! errors. A request without a prompt loads a model. It is answered without the backend, whose models are always loaded.

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
pub use translate::Translation;

use super::models::Models;
use super::{Context, Dialect, Plan};
use crate::error::ProxyError;
use crate::protocol::tokens::TokenLimit;

/// The content type of its streams.
const LINES: &str = "application/x-ndjson";

/// The tag that clients put behind a model's name where it has none.
const USUAL_TAG: &str = ":latest";

/// The dialect of `/api/chat`.
#[derive(Clone, Copy, Debug)]
pub struct Chat;

/// The dialect of `/api/generate`.
#[derive(Clone, Copy, Debug)]
pub struct Generate;

/// The two forms of requests and answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `messages`, and an answer in `message`.
    #[default]
    Chat,
    /// `prompt`, and an answer in `response`.
    Generate,
}

/// How requests are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The system prompt of a request that brings none (`default_instructions`).
    pub default_instructions: String,
    /// What becomes of `num_predict` (`chat.token_limit`).
    pub token_limit: TokenLimit,
}

/// A model's name without the tag that clients add to any name; one that the owner has given as an
/// alias stays as it is.
#[must_use]
pub fn untagged<'n>(name: &'n str, models: &Models) -> &'n str {
    let name = name.trim();
    let bare = name.strip_suffix(USUAL_TAG).filter(|bare| !bare.is_empty());
    bare.filter(|_| !models.rules.aliases.contains_key(name)).unwrap_or(name)
}

impl Dialect for Chat {
    type Request<'a> = OllamaRequest<'a>;
    type Options = Options;
    type Reply = OllamaReply;

    const NAME: &'static str = "ollama";
    const STREAM_TYPE: &'static str = LINES;

    fn decode(body: &[u8]) -> Result<OllamaRequest<'_>, ProxyError> {
        request::decode(body, Form::Chat)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, OllamaReply>, ProxyError> {
        plan(request, context, options)
    }

    fn to_error_response(error: &ProxyError, _request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error)
    }
}

impl Dialect for Generate {
    type Request<'a> = OllamaRequest<'a>;
    type Options = Options;
    type Reply = OllamaReply;

    const NAME: &'static str = Chat::NAME;
    const STREAM_TYPE: &'static str = LINES;

    fn decode(body: &[u8]) -> Result<OllamaRequest<'_>, ProxyError> {
        request::decode(body, Form::Generate)
    }

    fn translate<'a>(
        request: Self::Request<'a>,
        context: &mut Context<'_>,
        options: &Options,
    ) -> Result<Plan<'a, OllamaReply>, ProxyError> {
        plan(request, context, options)
    }

    fn to_error_response(error: &ProxyError, _request_id: &str) -> (StatusCode, HeaderMap, Bytes) {
        to_error_response(error)
    }
}

fn plan<'a>(
    request: OllamaRequest<'a>,
    context: &mut Context<'_>,
    options: &Options,
) -> Result<Plan<'a, OllamaReply>, ProxyError> {
    let Translation { upstream, mode, options } = translate::translate(request, context, options)?;
    Ok(Plan { upstream, mode, reply: OllamaReply::new(options) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::untagged;
    use crate::protocol::models::{Models, Rules};

    #[test]
    fn the_usual_tag_is_taken_off_where_it_is_not_part_of_an_alias() {
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
