//! What was used: a bar for each day, and where it went.

use std::collections::BTreeMap;

use super::format::{count, share};
use super::html::Html;
use crate::history::{Day, Report, Sum};

/// The height of the chart, and the room of a day in it.
const HEIGHT: u64 = 100;
const WIDTH: u64 = 10;

pub(super) fn write(html: &mut Html, totals: Option<&Report>) {
    html.raw("<section id=\"history\" aria-labelledby=\"history-title\" data-refresh>");
    html.raw("<h2 id=\"history-title\">Usage</h2>");
    match totals {
        None => html.raw("<p class=\"empty\">The file can’t be read right now; the log says why.</p>"),
        Some(report) if report.store == "off" => {
            html.raw("<p class=\"empty\">Not counted: <code>usage.store</code> is <code>off</code>.</p>")
        }
        Some(report) if report.sum.requests == 0 => {
            let days = report.since.until(report.until);
            html.raw("<p class=\"empty\">Nothing was used in the last ").text(days).raw(" days.</p>")
        }
        Some(report) => write_report(html, report),
    };
    html.raw("</section>");
}

fn write_report<'h>(html: &'h mut Html, report: &Report) -> &'h mut Html {
    let span = report.since.until(report.until);
    html.raw("<p class=\"aside\">The last ").text(span).raw(" days, in UTC.</p>");
    let days = sums(report, |day, _, _| Some(day));
    write_sum(html, report, &days);
    write_chart(html, report, &days);
    html.raw("<details id=\"days\"><summary>Day by day</summary>");
    write_table(html, "Usage by day, in UTC", "Day", days.iter().rev());
    html.raw("</details><div class=\"tables\">");
    let models = sums(report, |_, model, _| Some(model.to_owned()));
    write_table(html, "Usage by model", "Model", largest_first(&models));
    let keys = sums(report, |_, _, key| key.map(str::to_owned));
    if !keys.is_empty() {
        write_table(html, "Usage by client key", "Client key", largest_first(&keys));
    }
    html.raw("</div>")
}

fn sums<K: Ord>(report: &Report, heading: impl Fn(Day, &str, Option<&str>) -> Option<K>) -> BTreeMap<K, Sum> {
    let mut sums: BTreeMap<K, Sum> = BTreeMap::new();
    for row in &report.rows {
        if let Some(key) = heading(row.day, &row.model, row.key.as_deref()) {
            sums.entry(key).or_default().add(row.sum);
        }
    }
    sums
}

fn largest_first(sums: &BTreeMap<String, Sum>) -> impl Iterator<Item = (&String, &Sum)> {
    let mut sorted: Vec<_> = sums.iter().collect();
    sorted.sort_by_key(|(_, sum)| std::cmp::Reverse(tokens(sum)));
    sorted.into_iter()
}

fn tokens(sum: &Sum) -> u64 {
    sum.tokens.input.saturating_add(sum.tokens.output)
}

fn write_sum(html: &mut Html, report: &Report, days: &BTreeMap<Day, Sum>) {
    let Sum { requests, tokens } = report.sum;
    html.raw("<dl class=\"sums\"><div><dt>Requests</dt><dd>").text(count(requests));
    html.raw("</dd></div><div><dt>Input tokens</dt><dd>").text(count(tokens.input));
    html.raw("</dd><dd class=\"aside\">").text(share(tokens.cached, tokens.input)).raw(" from the cache</dd></div>");
    html.raw("<div><dt>Output tokens</dt><dd>").text(count(tokens.output)).raw("</dd><dd class=\"aside\">");
    html.text(share(tokens.reasoning, tokens.output)).raw(" reasoning</dd></div>");
    if let Some((day, sum)) = days.iter().max_by_key(|(_, sum)| self::tokens(sum)) {
        html.raw("<div><dt>Most on one day</dt><dd>").text(count(self::tokens(sum))).raw("</dd><dd class=\"aside\">");
        html.text(day).raw("</dd></div>");
    }
    html.raw("</dl>");
}

/// A bar for each day. Whoever can't see it finds the numbers in the table below.
fn write_chart(html: &mut Html, report: &Report, days: &BTreeMap<Day, Sum>) {
    let top = days.values().map(tokens).max().unwrap_or_default().max(1);
    let width = u64::from(report.since.until(report.until)) * WIDTH;
    html.raw("<figure><svg role=\"img\" aria-labelledby=\"chart-title\" preserveAspectRatio=\"none\" viewBox=\"0 0 ");
    html.text(width).raw(" ").text(HEIGHT).raw("\"><title id=\"chart-title\">Tokens of each day since ");
    html.text(report.since).raw("</title>");
    let mut day = report.since;
    for x in (0..width).step_by(usize::try_from(WIDTH).unwrap_or(1)) {
        if let Some(sum) = days.get(&day) {
            write_bar(html, x, day, sum, top);
        }
        day = day.next();
    }
    html.raw("</svg><figcaption><span>").text(report.since).raw("</span><span>today</span></figcaption></figure>");
}

fn write_bar(html: &mut Html, x: u64, day: Day, sum: &Sum, top: u64) {
    let scaled = u128::from(tokens(sum)) * u128::from(HEIGHT) / u128::from(top);
    // What is not nothing is seen.
    let height = u64::try_from(scaled).unwrap_or(HEIGHT).clamp(1, HEIGHT);
    html.raw("<rect x=\"").text(x + 1).raw("\" y=\"").text(HEIGHT - height).raw("\" width=\"").text(WIDTH - 2);
    html.raw("\" height=\"").text(height).raw("\"><title>").text(day).raw(": ").text(count(tokens(sum)));
    html.raw(" tokens, ").text(count(sum.requests)).raw(" requests</title></rect>");
}

fn write_table<'s, K: std::fmt::Display + 's>(
    html: &mut Html,
    caption: &'static str,
    heading: &'static str,
    sums: impl Iterator<Item = (&'s K, &'s Sum)>,
) {
    html.raw("<table><caption>").raw(caption).raw("</caption><thead><tr><th scope=\"col\">").raw(heading);
    html.raw(
        "</th><th scope=\"col\" class=\"number\">Requests</th><th scope=\"col\" class=\"number\">Input</th>\
         <th scope=\"col\" class=\"number\">Cached</th><th scope=\"col\" class=\"number\">Output</th></tr></thead><tbody>",
    );
    for (name, Sum { requests, tokens }) in sums {
        html.raw("<tr><th scope=\"row\">").name(name).raw("</th>");
        let cached = share(tokens.cached, tokens.input);
        for cell in [count(*requests), count(tokens.input), cached, count(tokens.output)] {
            html.raw("<td class=\"number\">").text(cell).raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table>");
}
