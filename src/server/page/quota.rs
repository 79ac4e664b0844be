//! The windows of the quota: how full, until when, and where they are going.

use std::time::SystemTime;

use super::format::{ago, moment, span};
use super::html::Html;
use super::view::View;
use crate::upstream::{Quota, QuotaWindow};

/// From here on it deserves attention, and then care.
const MUCH: f64 = 75.0;
const NEARLY_ALL: f64 = 90.0;
const ALL: f64 = 100.0;

pub(super) fn write(html: &mut Html, view: &View<'_>) {
    html.raw("<section id=\"quota\" aria-labelledby=\"quota-title\" data-refresh><h2 id=\"quota-title\">Quota</h2>");
    let quotas = &view.snapshot.quota;
    if quotas.iter().all(|quota| quota.windows.is_empty()) {
        html.raw("<p class=\"empty\">").raw(match view.sign_in {
            Ok(_) => "The backend has told nothing of the quota yet; it is asked again within a minute.",
            Err(_) => "Known when somebody is signed in.",
        });
        html.raw("</p>");
    }
    for (index, quota) in quotas.iter().enumerate() {
        if quotas.len() > 1 {
            html.raw("<h3>Account ").name(&quota.account_id).raw("</h3>");
        }
        write_account(html, index, quota, view.now);
    }
    html.raw("</section>");
}

fn write_account(html: &mut Html, account: usize, quota: &Quota, now: SystemTime) {
    if quota.windows.is_empty() {
        return;
    }
    html.raw("<ul class=\"windows\">");
    for (index, window) in quota.windows.iter().enumerate() {
        write_window(html, (account, index), window, now);
    }
    html.raw("</ul><p class=\"aside\">As the backend told it ");
    ago(html, quota.observed_at, now);
    html.raw("</p>");
}

fn write_window(html: &mut Html, (account, index): (usize, usize), window: &QuotaWindow, now: SystemTime) {
    let id = format!("window-{account}-{index}");
    html.raw("<li><div class=\"line\"><span class=\"label\" id=\"")
        .text(&id)
        .raw("\">")
        .name(&window.window)
        .raw(" window");
    if let Some(limit) = &window.limit {
        html.raw(" <small>of the limit ").name(limit).raw("</small>");
    }
    let used = window.used_percent;
    html.raw("</span><span class=\"used\"><strong>").text(format_args!("{used:.0}")).raw(" %</strong> used");
    html.raw(degree(used));
    html.raw("</span></div><meter min=\"0\" max=\"100\" low=\"75\" high=\"90\" optimum=\"0\" value=\"");
    html.text(format_args!("{:.1}", used.clamp(0.0, ALL))).raw("\" aria-labelledby=\"").text(&id).raw("\">");
    html.text(format_args!("{used:.0}")).raw(" %</meter><p class=\"aside\">");
    write_course(html, window, now);
    html.raw("</p></li>");
}

/// The colour of a meter in words.
fn degree(used: f64) -> &'static str {
    match used {
        _ if used >= ALL => " <span class=\"degree\">used up</span>",
        _ if used >= NEARLY_ALL => " <span class=\"degree\">nearly used up</span>",
        _ if used >= MUCH => " <span class=\"degree fair\">much used</span>",
        _ => "",
    }
}

/// When it begins anew, and where it is going if things go on so.
fn write_course(html: &mut Html, window: &QuotaWindow, now: SystemTime) {
    if let Some(reset) = window.resets_at {
        html.raw("Resets in ").text(span(reset.duration_since(now).unwrap_or_default())).raw(", ");
        moment(html, reset);
        html.raw(". ");
    }
    if let Some(pace) = window.pace.filter(|_| window.used_percent < ALL) {
        if let Some(spent) = pace.spent_at {
            html.raw("<strong>At this pace it is used up in ");
            html.text(span(spent.duration_since(now).unwrap_or_default())).raw(".</strong> ");
        } else {
            html.raw("At this pace ").text(format_args!("{:.0}", pace.projected_percent));
            html.raw(" % will be used by then. ");
        }
    }
    if !window.counts {
        html.raw("Requests through this proxy do not count against it.");
    }
}
