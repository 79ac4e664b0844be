//! The table of active requests and the latest ended ones, as HTML.

use std::time::SystemTime;

use maud::{Markup, html};

use super::format::{ago, count, short_span};
use super::html::{name, text};
use crate::server::active_requests::{RequestStatus, Stage};

pub(super) fn section(requests: &[RequestStatus], now: SystemTime) -> Markup {
    let active = requests.iter().filter(|request| request.state != Stage::Ended).count();
    html! {
        section #requests aria-labelledby="requests-title" data-refresh {
            h2 #requests-title { "Requests" }
            @if requests.is_empty() {
                p.empty { "No requests since the proxy was started." }
            } @else {
                p.aside { (active) " under way, " (requests.len() - active) " ended recently." }
                table.requests {
                    caption.unseen { "Active requests, then ended ones, each latest first" }
                    thead {
                        tr {
                            th scope="col" { "Model and client" }
                            th scope="col" { "State" }
                            th.number.wide scope="col" { "First content" }
                            th.number scope="col" { "Tokens" }
                        }
                    }
                    tbody { @for request in requests { (row(request, now)) } }
                }
            }
        }
    }
}

fn row(request: &RequestStatus, now: SystemTime) -> Markup {
    let is_ended = request.state == Stage::Ended;
    let first_content = request.first_content_ms.map(short_span);
    html! {
        tr.active[!is_ended] {
            th scope="row" {
                @if let Some(model) = &request.model { (name(model)) } @else { span.unknown { "no model yet" } }
                small {
                    @if let Some(client) = &request.client { (name(client)) } @else { "unknown client" }
                    @if let Some(key) = &request.key { ", key " (name(key)) }
                    ", " (request.dialect)
                }
            }
            td {
                (state(request))
                @if is_ended { small { (ago(request.started_at, now)) } }
                @if let Some(first) = &first_content { small.slim { "first content after " (first) } }
            }
            td.number.wide { (first_content.as_deref().unwrap_or("–")) }
            td.number { (tokens(request)) }
        }
    }
}

fn state(request: &RequestStatus) -> Markup {
    let span = short_span(request.duration_ms);
    let outcome = request.outcome.as_deref().unwrap_or_default().replace('_', " ");
    html! {
        @match (request.state, request.error) {
            (Stage::Queued, _) => { span.state { "◌ queued" } " for " (span) }
            (Stage::Waiting, _) => { span.state { "◔ waiting" } " for " (span) }
            (Stage::Answering, _) => { span.state.busy { "● answering" } " for " (span) }
            (Stage::Ended, None) => { span.state { "✓ " (text(outcome)) } " in " (span) }
            (Stage::Ended, Some(error)) => { span.state.bad { "✕ " (error.replace('_', " ")) } " after " (span) }
        }
    }
}

fn tokens(request: &RequestStatus) -> Markup {
    html! {
        @if let Some(tokens) = request.tokens {
            span.piece { (count(tokens.input)) " in," } " " span.piece { (count(tokens.output)) " out" }
            small { (count(tokens.cached)) " cached" }
        } @else {
            "–"
        }
    }
}
