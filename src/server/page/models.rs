//! The models that clients can ask for.

use super::format::count;
use super::html::Html;
use crate::protocol::models::{Model, Models};
use crate::server::models::named;

pub(super) fn write(html: &mut Html, models: &Models) {
    html.raw("<section id=\"models\" aria-labelledby=\"models-title\"><h2 id=\"models-title\">Models</h2>");
    let named = named(models);
    if named.is_empty() {
        html.raw(
            "<p class=\"empty\">The backend has listed none yet. Any name is passed on all the same.</p></section>",
        );
        return;
    }
    html.raw(
        "<table class=\"models\"><caption class=\"unseen\">Models that clients can ask for</caption><thead><tr>\
         <th scope=\"col\">Name</th><th scope=\"col\" class=\"number\">Window</th>\
         <th scope=\"col\">Effort, input</th></tr></thead><tbody>",
    );
    for (name, model) in named {
        write_row(html, name, model);
    }
    html.raw("</tbody></table></section>");
}

fn write_row(html: &mut Html, name: &str, model: &Model) {
    html.raw("<tr><th scope=\"row\"><code>").name(name).raw("</code>");
    if model.slug != name {
        html.raw("<small>means <code>").name(&model.slug).raw("</code></small>");
    } else if !model.display_name.eq_ignore_ascii_case(name) {
        html.raw("<small>").name(&model.display_name).raw("</small>");
    }
    html.raw("</th><td class=\"number\">");
    match model.context_window {
        Some(window) => html.text(count(window)),
        None => html.raw("–"),
    };
    html.raw("</td><td>");
    let efforts: Vec<&str> = model.efforts.iter().map(|effort| effort.as_str()).collect();
    html.text(if efforts.is_empty() { "–".to_owned() } else { efforts.join(", ") });
    html.raw("<small>").text(model.input_modalities.join(", "));
    if model.has_fast_tier {
        html.raw("; fast tier as <code class=\"piece\">-fast</code>");
    }
    html.raw("</small></td></tr>");
}
