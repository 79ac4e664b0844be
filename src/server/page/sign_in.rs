//! Whether the user is signed in, and how to sign in if not.

use maud::{Markup, html};

use super::html::{message, name, text};
use super::view::View;
use crate::command_hint::command;
use crate::token_source::{AuthError, SessionState};

pub(super) fn section(view: &View<'_>) -> Markup {
    html! {
        section #standing aria-labelledby="standing-title" data-refresh {
            h2 #standing-title { "Sign-in" }
            @match view.sign_in {
                Ok(state) => { (signed_in(view, state)) }
                Err(error) => { (failure(error)) }
            }
        }
    }
}

fn signed_in(view: &View<'_>, state: &SessionState) -> Markup {
    html! {
        @if *state == SessionState::ByClient {
            p.verdict.good { span aria-hidden="true" { "✓" } " Sign-in by the client" }
            p { "Each client sends its own ChatGPT login, which is passed on and not stored." }
        } @else if let Some(warning) = state.warning() {
            p.verdict { span aria-hidden="true" { "!" } " Signed in, but the session can’t be refreshed" }
            p.reason { (message(&warning)) }
        } @else {
            p.verdict.good { span aria-hidden="true" { "✓" } " Signed in" }
        }
        dl {
            div { dt { "Base URL for clients" } dd { "http://" (text(view.address)) "/v1" } }
            @for quota in &view.snapshot.quota {
                div { dt { "Account" } dd { (name(&quota.account_id)) } }
                @if let Some(plan) = &quota.plan { div { dt { "Plan" } dd { (name(plan)) } } }
            }
        }
    }
}

fn failure(error: &AuthError) -> Markup {
    html! {
        p.verdict.bad { span aria-hidden="true" { "✕" } " " (verdict(error)) }
        @if matches!(error, AuthError::SignedOut | AuthError::Ended { .. }) {
            p { "Run this command in a terminal on the machine that runs codex-proxy:" }
            pre { code { (command("login")) } }
            p {
                "With " code { "--device" } " you can confirm the sign-in in a browser on another machine. You don’t \
                 have to restart the proxy."
            }
        }
        @if *error != AuthError::SignedOut { p.reason { (message(&error.to_string())) } }
    }
}

fn verdict(error: &AuthError) -> &'static str {
    match error {
        AuthError::SignedOut | AuthError::ByClient | AuthError::ClientTokenUnusable { .. } => "Not signed in",
        AuthError::Ended { .. } | AuthError::BorrowedEnded { .. } | AuthError::EnvTokenUnusable { .. } => {
            "Your session has expired"
        }
        AuthError::NoActiveAccount | AuthError::UnknownAccount { .. } => "No account to use",
        AuthError::AccountChanged => "The account has changed",
        AuthError::Store { .. } => "The stored session can’t be read",
        AuthError::Unavailable { .. } | AuthError::TokenRefused { .. } => "The session can’t be used right now",
    }
}
