//! The quota windows of each account: how much is used, when they reset, and the projected use.

use std::time::SystemTime;

use maud::{Markup, html};

use super::format::{ago, moment, span};
use super::html::name;
use super::view::View;
use crate::upstream::{Quota, QuotaWindow};

/// The percentages from which a window is marked.
const MOSTLY_USED: f64 = 75.0;
const NEARLY_USED_UP: f64 = 90.0;
const USED_UP: f64 = 100.0;

pub(super) fn section(view: &View<'_>) -> Markup {
    let quotas = &view.snapshot.quota;
    html! {
        section #quota aria-labelledby="quota-title" data-refresh {
            h2 #quota-title { "Quota" }
            @if quotas.iter().all(|quota| quota.windows.is_empty()) {
                p.empty {
                    @if view.sign_in.is_ok() {
                        "The backend hasn’t reported the quota yet. It is requested again within a minute."
                    } @else {
                        "Sign in to see the quota."
                    }
                }
            }
            @for (index, quota) in quotas.iter().enumerate() {
                @if quotas.len() > 1 { h3 { "Account " (name(&quota.account_id)) } }
                (account(index, quota, view.now))
            }
        }
    }
}

fn account(account: usize, quota: &Quota, now: SystemTime) -> Markup {
    html! {
        @if !quota.windows.is_empty() {
            ul.windows {
                @for (index, entry) in quota.windows.iter().enumerate() {
                    (window(&format!("window-{account}-{index}"), entry, now))
                }
            }
            p.aside { "Reported by the backend " (ago(quota.observed_at, now)) }
        }
    }
}

fn window(id: &str, window: &QuotaWindow, now: SystemTime) -> Markup {
    let used = window.used_percent;
    let percent = format!("{used:.0} %");
    let value = format!("{:.1}", used.clamp(0.0, USED_UP));
    html! {
        li {
            div.line {
                span.label id=(id) {
                    (name(&window.window)) " window"
                    @if let Some(limit) = &window.limit { " " small { "of the limit " (name(limit)) } }
                }
                span.used { strong { (percent) } " used" (degree(used)) }
            }
            meter min="0" max="100" low="75" high="90" optimum="0" value=(value) aria-labelledby=(id) { (percent) }
            p.aside { (forecast(window, now)) }
        }
    }
}

/// The color of the meter as text.
fn degree(used: f64) -> Markup {
    html! {
        @if used >= USED_UP { " " span.degree { "used up" } }
        @else if used >= NEARLY_USED_UP { " " span.degree { "nearly used up" } }
        @else if used >= MOSTLY_USED { " " span.degree.fair { "mostly used" } }
    }
}

/// When the window resets, and how much of it will be used by then at the current pace.
fn forecast(window: &QuotaWindow, now: SystemTime) -> Markup {
    let remaining = |time: SystemTime| span(time.duration_since(now).unwrap_or_default());
    html! {
        @if let Some(reset) = window.resets_at { "Resets in " (remaining(reset)) ", " (moment(reset)) ". " }
        @if let Some(pace) = window.pace.filter(|_| window.used_percent < USED_UP) {
            @if let Some(spent) = pace.spent_at {
                strong { "At this pace it is used up in " (remaining(spent)) "." } " "
            } @else {
                "At this pace " (format!("{:.0}", pace.projected_percent)) " % will be used by then. "
            }
        }
        @if !window.counts { "Requests through this proxy don’t count against this window." }
    }
}
