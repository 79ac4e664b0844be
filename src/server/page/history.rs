//! Usage: totals, a bar for each day, and tables by day, model and client key.

use std::collections::BTreeMap;
use std::fmt::Display;

use maud::{Markup, html};

use super::format::{count, share};
use super::html::name;
use crate::history::{Day, UsageReport, UsageSum};

/// Height of the chart, and width of one day in it, in SVG units.
const CHART_HEIGHT: u64 = 100;
const DAY_WIDTH: u64 = 10;

pub(super) fn section(totals: Option<&UsageReport>) -> Markup {
    html! {
        section #history aria-labelledby="history-title" data-refresh {
            h2 #history-title { "Usage" }
            @match totals {
                None => { p.empty { "The usage database can’t be read right now. The log has the reason." } }
                Some(report) if report.store == "off" => {
                    p.empty { "Usage isn’t recorded: " code { "usage.store" } " is " code { "off" } "." }
                }
                Some(report) if report.sum.requests == 0 => {
                    p.empty { "No usage in the last " (report.since.until(report.until)) " days." }
                }
                Some(report) => { (report_tables(report)) }
            }
        }
    }
}

fn report_tables(report: &UsageReport) -> Markup {
    let days = sums(report, |day, _, _| Some(day));
    let models = sums(report, |_, model, _| Some(model.to_owned()));
    let keys = sums(report, |_, _, key| key.map(str::to_owned));
    html! {
        p.aside { "The last " (report.since.until(report.until)) " days, in UTC." }
        (totals_list(report, &days))
        (chart(report, &days))
        details #days { summary { "Day by day" } (table("Usage by day, in UTC", "Day", days.iter().rev())) }
        div.tables {
            (table("Usage by model", "Model", largest_first(&models)))
            @if !keys.is_empty() { (table("Usage by client key", "Client key", largest_first(&keys))) }
        }
    }
}

/// The sum of the rows with the same heading: a day, model or key. Leaves out rows without one.
fn sums<K: Ord>(report: &UsageReport, heading: impl Fn(Day, &str, Option<&str>) -> Option<K>) -> BTreeMap<K, UsageSum> {
    let mut sums: BTreeMap<K, UsageSum> = BTreeMap::new();
    for row in &report.rows {
        if let Some(key) = heading(row.day, &row.model, row.key.as_deref()) {
            sums.entry(key).or_default().add(row.sum);
        }
    }
    sums
}

fn largest_first(sums: &BTreeMap<String, UsageSum>) -> impl Iterator<Item = (&String, &UsageSum)> {
    let mut sorted: Vec<_> = sums.iter().collect();
    sorted.sort_by_key(|(_, sum)| std::cmp::Reverse(tokens(sum)));
    sorted.into_iter()
}

fn tokens(sum: &UsageSum) -> u64 {
    sum.tokens.input.saturating_add(sum.tokens.output)
}

fn totals_list(report: &UsageReport, days: &BTreeMap<Day, UsageSum>) -> Markup {
    let UsageSum { requests, tokens: used } = report.sum;
    html! {
        dl.sums {
            div { dt { "Requests" } dd { (count(requests)) } }
            div {
                dt { "Input tokens" } dd { (count(used.input)) }
                dd.aside { (share(used.cached, used.input)) " from the cache" }
            }
            div {
                dt { "Output tokens" } dd { (count(used.output)) }
                dd.aside { (share(used.reasoning, used.output)) " reasoning" }
            }
            @if let Some((day, sum)) = days.iter().max_by_key(|(_, sum)| tokens(sum)) {
                div { dt { "Busiest day" } dd { (count(tokens(sum))) } dd.aside { (day) } }
            }
        }
    }
}

/// A bar for each day. The table below has the same numbers as text.
fn chart(report: &UsageReport, days: &BTreeMap<Day, UsageSum>) -> Markup {
    let top = days.values().map(tokens).max().unwrap_or_default().max(1);
    let width = u64::from(report.since.until(report.until)) * DAY_WIDTH;
    let view_box = format!("0 0 {width} {CHART_HEIGHT}");
    let all_days = std::iter::successors(Some(report.since), |day| Some(day.next()));
    let bars = (0..width).step_by(usize::try_from(DAY_WIDTH).unwrap_or(1)).zip(all_days);
    html! {
        figure {
            svg role="img" aria-labelledby="chart-title" preserveAspectRatio="none" viewBox=(view_box) {
                title #chart-title { "Tokens of each day since " (report.since) }
                @for (x, day) in bars {
                    @if let Some(sum) = days.get(&day) { (bar(x, day, sum, top)) }
                }
            }
            figcaption { span { (report.since) } span { "today" } }
        }
    }
}

fn bar(x: u64, day: Day, sum: &UsageSum, top: u64) -> Markup {
    let scaled = u128::from(tokens(sum)) * u128::from(CHART_HEIGHT) / u128::from(top);
    // At least one unit, so that a day with any usage is visible.
    let height = u64::try_from(scaled).unwrap_or(CHART_HEIGHT).clamp(1, CHART_HEIGHT);
    html! {
        rect x=(x + 1) y=(CHART_HEIGHT - height) width=(DAY_WIDTH - 2) height=(height) {
            title { (day) ": " (count(tokens(sum))) " tokens, " (count(sum.requests)) " requests" }
        }
    }
}

fn table<'s, K: Display + 's>(
    caption: &'static str,
    heading: &'static str,
    sums: impl Iterator<Item = (&'s K, &'s UsageSum)>,
) -> Markup {
    html! {
        table {
            caption { (caption) }
            thead {
                tr {
                    th scope="col" { (heading) }
                    @for column in ["Requests", "Input", "Cached", "Output"] { th.number scope="col" { (column) } }
                }
            }
            tbody {
                @for (key, UsageSum { requests, tokens }) in sums {
                    tr {
                        th scope="row" { (name(key)) }
                        td.number { (count(*requests)) }
                        td.number { (count(tokens.input)) }
                        td.number { (share(tokens.cached, tokens.input)) }
                        td.number { (count(tokens.output)) }
                    }
                }
            }
        }
    }
}
