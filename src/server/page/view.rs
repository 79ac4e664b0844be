//! The HTML document: its head, header and footer, and the order of its sections.

use std::time::SystemTime;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{SCRIPT, STYLE, clients, history, models, quota, requests, sign_in};
use crate::protocol::models::Models;
use crate::server::usage::Snapshot;
use crate::token_source::{AuthError, SessionState};

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect \
                    width='16' height='16' rx='4' fill='%230b7285'/%3E%3Cpath d='M4 5l3 3-3 3M8.5 11.5h4' \
                    stroke='white' stroke-width='1.6' fill='none'/%3E%3C/svg%3E";

/// Whether clients need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open,
    Keyed,
}

/// Everything that the page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v> {
    pub(super) snapshot: &'v Snapshot,
    /// The state of the session, or why no token is available.
    pub(super) sign_in: &'v Result<SessionState, AuthError>,
    pub(super) models: &'v Models,
    /// Host and port from the request for the page.
    pub(super) address: &'v str,
    pub(super) access: Access,
    pub(super) now: SystemTime,
}

impl View<'_> {
    /// The whole document.
    pub(super) fn document(&self) -> String {
        let body = html! {
            a.skip href="#main" { "Skip to the content" }
            (header())
            main #main tabindex="-1" {
                @if self.snapshot.demo {
                    p.note.demo { strong { "Demo." } " Responses are simulated or recorded: no model and no account is used." }
                }
                div.top { (sign_in::section(self)) (quota::section(self)) }
                (requests::section(&self.snapshot.requests, self.now))
                (history::section(self.snapshot.totals.as_ref()))
                (clients::section(self))
                (models::section(self.models))
            }
            (self.footer())
            script { (PreEscaped(SCRIPT)) }
        };
        document(&body)
    }

    fn footer(&self) -> Markup {
        html! {
            footer {
                p {
                    "codex-proxy " (self.snapshot.version) ". This page never shows prompts or responses. Programs can \
                     read its numbers at " code { "/usage" } ", Prometheus at " code { "/metrics" } "."
                }
                p #status role="status" {}
                noscript { p { "Reload the page to see changes." } }
            }
        }
    }
}

/// The page for a browser that has sent no client key.
pub(super) fn key_required() -> String {
    document(&html! {
        header { h1 { "codex-proxy" } }
        main #main {
            section {
                h2 { "A client key is required" }
                p { "Reload the page and enter one of the client keys as the password. The user name can be anything." }
            }
        }
    })
}

fn document(body: &Markup) -> String {
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "codex-proxy" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href=(ICON);
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    document.into_string()
}

fn header() -> Markup {
    let links = [
        ("quota", "Quota"),
        ("requests", "Requests"),
        ("history", "Usage"),
        ("clients", "Clients"),
        ("models", "Models"),
    ];
    html! {
        header {
            h1 { "codex-proxy" }
            nav aria-label="On this page" {
                ul { @for (id, title) in links { li { a href={ "#" (id) } { (title) } } } }
            }
        }
    }
}
