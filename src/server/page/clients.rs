//! The settings to enter in a client, for each of the three APIs, and a command that tests the proxy.
//!
//! These lines are copied into a terminal. Text from outside is inserted only if it has no special meaning to a shell
//! or in JSON; otherwise the line has a placeholder.

use maud::{Markup, html};

use super::view::{Access, View};
use crate::protocol::models::Models;

const KEY_PLACEHOLDER: &str = "YOUR-KEY";

/// The values that are inserted into the settings.
struct Values<'v> {
    address: &'v str,
    model: &'v str,
    key: &'static str,
}

pub(super) fn section(view: &View<'_>) -> Markup {
    let values = Values {
        address: plain(view.address).unwrap_or("localhost:8787"),
        model: first_model(view.models).and_then(plain).unwrap_or("MODEL"),
        key: match view.access {
            Access::Open => "anything",
            Access::Keyed => KEY_PLACEHOLDER,
        },
    };
    html! {
        section #clients aria-labelledby="clients-title" {
            h2 #clients-title { "Clients" }
            p { code { "codex-proxy connect" } " prints the settings of many clients and can write them. In general:" }
            p {
                @match view.access {
                    Access::Open => { "No client key is set. If a client requires a key, enter any text." }
                    Access::Keyed => { "Replace " code { (KEY_PLACEHOLDER) } " with one of the client keys." }
                }
            }
            div.recipes {
                (open_ai(&values)) (anthropic(&values)) (gemini(&values)) (ollama(&values, view.access))
                (test_request(&values, view.access))
            }
        }
    }
}

fn open_ai(Values { address, model, key }: &Values<'_>) -> Markup {
    html! {
        div {
            h3 { "OpenAI’s API" }
            pre { code { "OPENAI_BASE_URL=http://" (address) "/v1\nOPENAI_API_KEY=" (key) } }
            p { "Model " code { (model) } ", or another model from the list." }
        }
    }
}

fn anthropic(Values { address, key, .. }: &Values<'_>) -> Markup {
    html! {
        div {
            h3 { "Anthropic’s API" }
            pre { code { "ANTHROPIC_BASE_URL=http://" (address) "\nANTHROPIC_AUTH_TOKEN=" (key) } }
            p { "Names such as " code { "claude-opus-4-8" } " are mapped to a model from the list." }
        }
    }
}

fn gemini(Values { address, key, .. }: &Values<'_>) -> Markup {
    html! {
        div {
            h3 { "Google’s API" }
            pre { code { "GOOGLE_GEMINI_BASE_URL=http://" (address) "\nGEMINI_API_KEY=" (key) } }
            p { "Names such as " code { "gemini-3-pro" } " are mapped to a model from the list." }
        }
    }
}

fn ollama(Values { address, .. }: &Values<'_>, access: Access) -> Markup {
    html! {
        div {
            h3 { "Ollama’s API" }
            pre { code { "OLLAMA_HOST=http://" (address) } }
            p {
                "The address without " code { "/v1" }
                @if access == Access::Keyed {
                    ", and the header " code { "Authorization: Bearer " (KEY_PLACEHOLDER) }
                }
                "."
            }
        }
    }
}

/// A request that shows whether the proxy works.
fn test_request(Values { address, model, .. }: &Values<'_>, access: Access) -> Markup {
    html! {
        div {
            h3 { "Test request" }
            pre {
                code {
                    "curl http://" (address) "/v1/chat/completions \\\n"
                    @if access == Access::Keyed { "  -H 'authorization: Bearer " (KEY_PLACEHOLDER) "' \\\n" }
                    "  -H 'content-type: application/json' \\\n  -d '{\"model\": \"" (model)
                    "\", \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}'"
                }
            }
        }
    }
}

fn first_model(models: &Models) -> Option<&str> {
    let default = models.rules.default_model.as_deref();
    default.or_else(|| models.catalogue.first_listed().map(|model| model.slug.as_str()))
}

/// The text, if it has no character that is special to a shell or in JSON.
fn plain(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-[]".contains(&byte);
    (!text.is_empty() && text.bytes().all(is_plain)).then_some(text)
}
