//! The text form of `usage`: a bar for each day, and a table of models and client keys. Lines fit into 80 columns.

use std::collections::BTreeMap;

use super::super::charts::filled;
use super::super::color::{BLUE, Coloring, DIM};
use super::super::table::{padded, truncate};
use crate::history::{Day, UsageReport, UsageSum};

/// If there are more days, each bar covers a week.
const MAX_BARS: u32 = 31;
const BAR_WIDTH: u32 = 40;
const MODEL_WIDTH: usize = 20;
const KEY_WIDTH: usize = 11;

pub(super) fn format(report: &UsageReport, coloring: Coloring) -> String {
    let days = report.since.until(report.until);
    let span = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
    let heading = format!("usage from {} to {} ({span}, in UTC)", report.since, report.until);
    if report.rows.is_empty() {
        return format!("{heading}\n\nno usage recorded");
    }
    let parts = [heading, String::new(), bars(report, days, coloring), String::new(), table(report, coloring)];
    parts.join("\n")
}

/// Returns a line for each day, or each week if there are many days, with a bar of its tokens.
fn bars(report: &UsageReport, days: u32, coloring: Coloring) -> String {
    let (step, unit) = if days > MAX_BARS { (7, "week from") } else { (1, "day") };
    let mut spans: Vec<(Day, UsageSum)> = Vec::new();
    let mut day = report.since;
    for index in 0..days {
        if index % step == 0 {
            spans.push((day, UsageSum::default()));
        }
        let of_day = report.rows.iter().filter(|row| row.day == day);
        if let Some((_, sum)) = spans.last_mut() {
            of_day.for_each(|row| sum.add(row.sum));
        }
        day = day.next();
    }
    let most = spans.iter().map(|(_, sum)| tokens(sum)).max().unwrap_or_default().max(1);
    let heading = format!("{unit:<10}  {:>8}  {:>8}", "requests", "tokens");
    let mut lines = vec![coloring.paint(DIM, &heading)];
    lines.extend(spans.iter().map(|(day, sum)| {
        #[expect(clippy::cast_precision_loss, reason = "a bar has 320 steps")]
        let share = tokens(sum) as f64 / most as f64;
        let bar = coloring.paint(BLUE, &filled(share, BAR_WIDTH));
        let line = format!("{day:<10}  {:>8}  {:>8}  {bar}", short(sum.requests), short(tokens(sum)));
        line.trim_end().to_owned()
    }));
    lines.join("\n")
}

/// Returns a line for each model and key, sorted by tokens, and a line with the sum.
fn table(report: &UsageReport, coloring: Coloring) -> String {
    let mut sums: BTreeMap<(&str, Option<&str>), UsageSum> = BTreeMap::new();
    for row in &report.rows {
        sums.entry((&row.model, row.key.as_deref())).or_default().add(row.sum);
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(tokens(sum)));
    let heading = line("model", "key", ["requests", "input", "cached", "output", "reasoning"]);
    let mut lines = vec![coloring.paint(DIM, &heading)];
    lines.extend(sums.iter().map(|((model, key), sum)| counts(model, key.unwrap_or("-"), sum)));
    lines.push(counts("all", "", &report.sum));
    lines.join("\n")
}

fn counts(model: &str, key: &str, sum: &UsageSum) -> String {
    let of = &sum.tokens;
    let cached =
        (u128::from(of.cached) * 100).checked_div(of.input.into()).map_or("-".to_owned(), |share| format!("{share} %"));
    let (requests, input, output) = (short(sum.requests), short(of.input), short(of.output));
    line(model, key, [&requests, &input, &cached, &output, &short(of.reasoning)])
}

fn line(model: &str, key: &str, [requests, input, cached, output, reasoning]: [&str; 5]) -> String {
    let model = padded(&truncate(model, MODEL_WIDTH), MODEL_WIDTH);
    let key = padded(&truncate(key, KEY_WIDTH), KEY_WIDTH);
    format!("{model}  {key}  {requests:>8}  {input:>7}  {cached:>6}  {output:>7}  {reasoning:>9}")
}

/// Returns the total of input and output tokens.
fn tokens(sum: &UsageSum) -> u64 {
    sum.tokens.input.saturating_add(sum.tokens.output)
}

/// Formats a number in at most six characters: `999`, `12.3k`, `4.56M`.
fn short(count: u64) -> String {
    const UNITS: [(u64, char); 5] =
        [(1_000_000_000_000_000, 'P'), (1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1000, 'k')];
    let Some((unit, sign)) = UNITS.into_iter().find(|(unit, _)| count >= *unit) else { return count.to_string() };
    let (whole, hundredths) = (count / unit, count % unit * 100 / unit);
    match whole {
        0..10 => format!("{whole}.{hundredths:02}{sign}"),
        10..100 => format!("{whole}.{}{sign}", hundredths / 10),
        _ => format!("{whole}{sign}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::super::color::Coloring;
    use super::{format, short};
    use crate::history::{Day, Tokens, UsageReport, UsageRow, UsageSum};

    fn today() -> Day {
        Day::of(UNIX_EPOCH + Duration::from_secs(1_795_254_031))
    }

    fn row(back: u32, key: Option<&str>, model: &str, input: u64) -> UsageRow {
        let tokens = Tokens { input, cached: input / 2, output: 10, reasoning: 5 };
        UsageRow {
            day: today().back(back),
            key: key.map(str::to_owned),
            model: model.to_owned(),
            sum: UsageSum { requests: 2, tokens },
        }
    }

    fn report(days: u32, rows: Vec<UsageRow>) -> UsageReport {
        let mut sum = UsageSum::default();
        for row in &rows {
            sum.add(row.sum);
        }
        UsageReport { store: "disk", keep_days: 90, since: today().back(days - 1), until: today(), sum, rows }
    }

    #[test]
    fn a_bar_for_each_day_and_a_line_for_each_model_and_key() {
        let long = "a-model-with-a-name-that-goes-on-and-on";
        let rows =
            vec![row(2, None, "gpt-6.2-sol", 990), row(0, Some("desk"), "gpt-6.2-sol", 490), row(0, None, long, 0)];
        let expected = "usage from 2026-11-19 to 2026-11-21 (3 days, in UTC)\n\n\
             day         requests    tokens\n\
             2026-11-19         2     1.00k  ████████████████████████████████████████\n\
             2026-11-20         0         0\n\
             2026-11-21         4       510  ████████████████████▍\n\n\
             model                 key          requests    input  cached   output  reasoning\n\
             gpt-6.2-sol           -                   2      990    50 %       10          5\n\
             gpt-6.2-sol           desk                2      490    50 %       10          5\n\
             a-model-with-a-name…  -                   2        0       -       10          5\n\
             all                                       6    1.48k    50 %       30         15";
        assert_eq!(format(&report(3, rows), Coloring::Off), expected);
    }

    #[test]
    fn many_days_are_grouped_by_week_and_no_line_is_too_long() {
        let rows =
            (0..90).map(|back| row(89 - back, Some("a key with a long name"), "gpt-6.2-sol", u64::MAX / 999)).collect();
        let text = format(&report(90, rows), Coloring::Off);
        assert!(text.contains("week from") && text.lines().count() < 24, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn an_empty_report_says_so() {
        assert!(format(&report(1, Vec::new()), Coloring::Off).contains("no usage recorded"));
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0, 999, 1000, 12_345, 999_999, 4_567_890, 123_456_789, 5_000_000_000];
        let expected = ["0", "999", "1.00k", "12.3k", "999k", "4.56M", "123M", "5.00G"];
        assert_eq!(numbers.map(short), expected);
    }
}
