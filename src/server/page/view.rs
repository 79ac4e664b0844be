//! The document: its frame, and the order of its parts.

use std::time::SystemTime;

use super::html::Html;
use super::{SCRIPT, STYLE, clients, history, models, quota, requests, sign_in};
use crate::protocol::models::Models;
use crate::server::usage::Snapshot;
use crate::token_source::{AuthError, SignIn};

/// Whether clients have to show a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open,
    Keyed,
}

/// All that the page shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v> {
    pub(super) snapshot: &'v Snapshot,
    /// The state of the sign-in; an error: no token can be had.
    pub(super) sign_in: &'v Result<SignIn, AuthError>,
    pub(super) models: &'v Models,
    /// Host and port, as the page was asked for.
    pub(super) address: &'v str,
    pub(super) access: Access,
    pub(super) now: SystemTime,
}

impl View<'_> {
    /// The whole document.
    pub(super) fn document(&self) -> String {
        let mut html = Html::default();
        begin(&mut html);
        write_header(&mut html);
        html.raw("<main id=\"main\" tabindex=\"-1\">");
        if self.snapshot.demo {
            html.raw(
                "<p class=\"note demo\"><strong>Demo.</strong> A simulated backend answers: no model is asked, and no \
                 account is used.</p>",
            );
        }
        html.raw("<div class=\"top\">");
        sign_in::write(&mut html, self);
        quota::write(&mut html, self);
        html.raw("</div>");
        requests::write(&mut html, &self.snapshot.requests, self.now);
        history::write(&mut html, self.snapshot.totals.as_ref());
        clients::write(&mut html, self);
        models::write(&mut html, self.models);
        html.raw("</main>");
        self.write_footer(&mut html);
        html.raw("<script>").raw(SCRIPT).raw("</script></body></html>\n");
        html.into_string()
    }

    fn write_footer(&self, html: &mut Html) {
        html.raw("<footer><p>codex-proxy ").text(self.snapshot.version).raw(
            ". What is asked and answered is never shown here. The numbers of this page are at \
             <code>/usage</code> for programs, and at <code>/metrics</code> for Prometheus.</p>\
             <p id=\"told\" role=\"status\"></p><noscript><p>Load the page again to see what has changed.</p></noscript>\
             </footer>",
        );
    }
}

/// The page of somebody who has shown no key.
pub(super) fn locked() -> String {
    let mut html = Html::default();
    begin(&mut html);
    html.raw(
        "<body><header><h1>codex-proxy</h1></header><main id=\"main\"><section><h2>A client key is needed</h2>\
         <p>This proxy has client keys set. Load the page again and give one of them as the password; the name does \
         not matter.</p></section></main></body></html>\n",
    );
    html.into_string()
}

fn write_header(html: &mut Html) {
    html.raw(
        "<body><a class=\"skip\" href=\"#main\">Skip to the content</a>\
         <header><h1>codex-proxy</h1><nav aria-label=\"On this page\"><ul>\
         <li><a href=\"#quota\">Quota</a></li><li><a href=\"#requests\">Requests</a></li>\
         <li><a href=\"#history\">Usage</a></li><li><a href=\"#clients\">Clients</a></li>\
         <li><a href=\"#models\">Models</a></li></ul></nav></header>",
    );
}

fn begin(html: &mut Html) {
    html.raw(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>codex-proxy</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
         %3Crect width='16' height='16' rx='4' fill='%230b7285'/%3E%3Cpath d='M4 5l3 3-3 3M8.5 11.5h4' \
         stroke='white' stroke-width='1.6' fill='none'/%3E%3C/svg%3E\"><style>",
    );
    html.raw(STYLE).raw("</style></head>");
}
