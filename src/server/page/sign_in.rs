//! Whether somebody is signed in, and what to do if not.

use super::html::Html;
use super::view::View;
use crate::command_hint::command;
use crate::token_source::{AuthError, SignIn};

pub(super) fn write(html: &mut Html, view: &View<'_>) {
    html.raw("<section id=\"standing\" aria-labelledby=\"standing-title\" data-refresh>");
    html.raw("<h2 id=\"standing-title\">Sign-in</h2>");
    match view.sign_in {
        Ok(state) => signed_in(html, view, state),
        Err(error) => trouble(html, error),
    }
    html.raw("</section>");
}

fn signed_in(html: &mut Html, view: &View<'_>, state: &SignIn) {
    match state.warning() {
        None => html.raw("<p class=\"verdict good\"><span aria-hidden=\"true\">✓</span> Signed in</p>"),
        Some(warning) => html
            .raw("<p class=\"verdict\"><span aria-hidden=\"true\">!</span> Signed in, but not for long</p>")
            .raw("<p class=\"reason\">")
            .sentence(&warning)
            .raw("</p>"),
    };
    html.raw("<dl><div><dt>Base URL for clients</dt><dd>http://").text(view.address).raw("/v1</dd></div>");
    for quota in &view.snapshot.quota {
        html.raw("<div><dt>Account</dt><dd>").name(&quota.account_id).raw("</dd></div>");
        if let Some(plan) = &quota.plan {
            html.raw("<div><dt>Plan</dt><dd>").name(plan).raw("</dd></div>");
        }
    }
    html.raw("</dl>");
}

fn trouble(html: &mut Html, error: &AuthError) {
    let verdict = match error {
        AuthError::SignedOut => "Not signed in",
        AuthError::Ended { .. } | AuthError::BorrowedEnded { .. } | AuthError::GivenEnded { .. } => {
            "Your session has expired"
        }
        AuthError::NoActiveAccount | AuthError::UnknownAccount { .. } => "No account to use",
        AuthError::AccountChanged => "The account has changed",
        AuthError::Store { .. } => "The sign-in can’t be read",
        AuthError::Unavailable { .. } | AuthError::TokenRefused { .. } => "The sign-in can’t be used right now",
    };
    html.raw("<p class=\"verdict bad\"><span aria-hidden=\"true\">✕</span> ").text(verdict).raw("</p>");
    if matches!(error, AuthError::SignedOut | AuthError::Ended { .. }) {
        html.raw("<p>Run this in a terminal on the machine that codex-proxy runs on:</p>");
        html.raw("<pre><code>").text(command("login")).raw("</code></pre>");
        html.raw(
            "<p>With <code>--device</code> you can confirm it in a browser on any other machine. The proxy need not be \
             started again.</p>",
        );
    }
    if *error != AuthError::SignedOut {
        html.raw("<p class=\"reason\">").sentence(&error.to_string()).raw("</p>");
    }
}
