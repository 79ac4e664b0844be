//! The requests under way, and the last ones that have ended.

use std::time::SystemTime;

use super::format::{ago, count, seconds};
use super::html::Html;
use crate::server::active_requests::{RequestStatus, Stage};

pub(super) fn write(html: &mut Html, visits: &[RequestStatus], now: SystemTime) {
    html.raw("<section id=\"requests\" aria-labelledby=\"requests-title\" data-refresh>");
    html.raw("<h2 id=\"requests-title\">Requests</h2>");
    if visits.is_empty() {
        html.raw("<p class=\"empty\">None has come since the proxy was started.</p></section>");
        return;
    }
    let active = visits.iter().filter(|visit| visit.state != Stage::Ended).count();
    html.raw("<p class=\"aside\">").text(active).raw(" under way, ").text(visits.len() - active);
    html.raw(" that ended last.</p><table class=\"requests\"><caption class=\"unseen\">Requests, the latest first");
    html.raw(
        "</caption><thead><tr><th scope=\"col\">Model and client</th><th scope=\"col\">State</th>\
         <th scope=\"col\" class=\"number wide\">First content</th><th scope=\"col\" class=\"number\">Tokens</th></tr>\
         </thead><tbody>",
    );
    for visit in visits {
        write_row(html, visit, now);
    }
    html.raw("</tbody></table></section>");
}

fn write_row(html: &mut Html, visit: &RequestStatus, now: SystemTime) {
    html.raw(if visit.state == Stage::Ended { "<tr>" } else { "<tr class=\"active\">" });
    html.raw("<th scope=\"row\">");
    match &visit.model {
        Some(model) => html.name(model),
        None => html.raw("<span class=\"unknown\">no model yet</span>"),
    };
    html.raw("<small>");
    match &visit.client {
        Some(client) => html.name(client),
        None => html.raw("a nameless client"),
    };
    if let Some(key) = &visit.key {
        html.raw(", key ").name(key);
    }
    html.raw(", ").text(visit.dialect).raw("</small></th><td>");
    write_state(html, visit);
    if visit.state == Stage::Ended {
        html.raw("<small>");
        ago(html, visit.started_at, now);
        html.raw("</small>");
    }
    let first = visit.first_content_ms.map(seconds);
    if let Some(first) = &first {
        html.raw("<small class=\"slim\">first content after ").text(first).raw("</small>");
    }
    html.raw("</td><td class=\"number wide\">").text(first.as_deref().unwrap_or("–"));
    html.raw("</td><td class=\"number\">");
    write_tokens(html, visit);
    html.raw("</td></tr>");
}

fn write_state(html: &mut Html, visit: &RequestStatus) {
    let span = seconds(visit.duration_ms);
    match visit.state {
        Stage::Queued => html.raw("<span class=\"state\">◌ in the queue</span> for ").text(span),
        Stage::Waiting => html.raw("<span class=\"state\">◔ waiting</span> for ").text(span),
        Stage::Answering => html.raw("<span class=\"state busy\">● answering</span> for ").text(span),
        Stage::Ended => match visit.error {
            None => {
                let outcome = visit.outcome.as_deref().unwrap_or_default().replace('_', " ");
                html.raw("<span class=\"state\">✓ ").text(outcome).raw("</span> in ").text(span)
            }
            Some(error) => {
                let error = error.replace('_', " ");
                html.raw("<span class=\"state bad\">✕ ").text(error).raw("</span> after ").text(span)
            }
        },
    };
}

fn write_tokens(html: &mut Html, visit: &RequestStatus) {
    match visit.tokens {
        None => html.raw("–"),
        Some(tokens) => {
            html.raw("<span class=\"piece\">").text(count(tokens.input)).raw(" in,</span> <span class=\"piece\">");
            html.text(count(tokens.output)).raw(" out</span><small>");
            html.text(count(tokens.cached)).raw(" cached</small>")
        }
    };
}
