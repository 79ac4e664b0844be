//! What to type into a client, for each of the three APIs that it may speak.
//!
//! These lines are copied into a terminal. A word from outside gets into them only where it can mean
//! nothing to a shell; else a placeholder stands there.

use super::html::Html;
use super::view::{Access, View};
use crate::protocol::models::Models;

/// What stands in the place of a key that the reader has.
const OWN_KEY: &str = "YOUR-KEY";

/// The words that the lines are made of.
struct Words<'w> {
    address: &'w str,
    model: &'w str,
    key: &'static str,
}

pub(super) fn write(html: &mut Html, view: &View<'_>) {
    let words = Words {
        address: plain(view.address).unwrap_or("localhost:8787"),
        model: first_model(view.models).and_then(plain).unwrap_or("MODEL"),
        key: match view.access {
            Access::Open => "anything",
            Access::Keyed => OWN_KEY,
        },
    };
    html.raw("<section id=\"clients\" aria-labelledby=\"clients-title\"><h2 id=\"clients-title\">Clients</h2>");
    html.raw(
        "<p><code>codex-proxy connect</code> prints the settings of many clients, and can write them. In general:",
    );
    html.raw("</p><p>").raw(match view.access {
        Access::Open => "No key is asked for: any text will do where a client insists on one.",
        Access::Keyed => {
            "A client has to show one of the keys that are set; put it in the place of <code>YOUR-KEY</code>."
        }
    });
    html.raw("</p><div class=\"recipes\">");
    open_ai(html, &words);
    anthropic(html, &words);
    ollama(html, &words, view.access);
    trial(html, &words, view.access);
    html.raw("</div></section>");
}

fn open_ai(html: &mut Html, words: &Words<'_>) {
    html.raw("<div><h3>OpenAI’s API</h3><pre><code>OPENAI_BASE_URL=http://").text(words.address);
    html.raw("/v1\nOPENAI_API_KEY=").text(words.key).raw("</code></pre>");
    html.raw("<p>Model <code>").text(words.model).raw("</code>, or another of the list.</p></div>");
}

fn anthropic(html: &mut Html, words: &Words<'_>) {
    html.raw("<div><h3>Anthropic’s API</h3><pre><code>ANTHROPIC_BASE_URL=http://").text(words.address);
    html.raw("\nANTHROPIC_AUTH_TOKEN=").text(words.key).raw("</code></pre>");
    html.raw("<p>Names such as <code>claude-opus-4-8</code> mean a model of the list.</p></div>");
}

fn ollama(html: &mut Html, words: &Words<'_>, access: Access) {
    html.raw("<div><h3>Ollama’s API</h3><pre><code>OLLAMA_HOST=http://").text(words.address).raw("</code></pre><p>");
    html.raw(match access {
        Access::Open => "The address without <code>/v1</code>.",
        Access::Keyed => {
            "The address without <code>/v1</code>, and the header <code>Authorization: Bearer YOUR-KEY</code>."
        }
    });
    html.raw("</p></div>");
}

/// Something that shows at once whether it works.
fn trial(html: &mut Html, words: &Words<'_>, access: Access) {
    html.raw("<div><h3>A trial</h3><pre><code>curl http://").text(words.address).raw("/v1/chat/completions \\\n");
    if access == Access::Keyed {
        html.raw("  -H &#39;authorization: Bearer ").text(OWN_KEY).raw("&#39; \\\n");
    }
    html.raw("  -H &#39;content-type: application/json&#39; \\\n  -d &#39;{&quot;model&quot;: &quot;")
        .text(words.model);
    html.raw("&quot;, &quot;messages&quot;: [{&quot;role&quot;: &quot;user&quot;, &quot;content&quot;: &quot;Hello&quot;}]}&#39;");
    html.raw("</code></pre></div>");
}

fn first_model(models: &Models) -> Option<&str> {
    let own = models.rules.default_model.as_deref();
    own.or_else(|| models.catalogue.first_listed().map(|model| model.slug.as_str()))
}

/// A word that no shell and no JSON takes for anything else.
fn plain(word: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-[]".contains(&byte);
    (!word.is_empty() && word.bytes().all(is_plain)).then_some(word)
}
