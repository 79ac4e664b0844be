//! The figures: a table for people, JSON for programs.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::subject::Subject;

/// One figure of one subject.
#[derive(Debug)]
struct Row {
    figure: String,
    subject: &'static str,
    value: f64,
    unit: &'static str,
    /// The ratio to the forwarder's value in the same run.
    ratio: Option<f64>,
    target: Option<Target>,
}

/// The limit of the ratio, or of the value if there is no ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl Report {
    /// A figure without comparison.
    pub(crate) fn plain(&mut self, figure: &str, value: f64, unit: &'static str, target: Option<Target>) {
        self.add(Row { figure: figure.to_owned(), subject: "proxy", value, unit, ratio: None, target });
    }

    /// A figure of every subject, compared with the forwarder's.
    pub(crate) fn compared(
        &mut self,
        figure: &str,
        unit: &'static str,
        values: &[(Subject, f64)],
        target: impl Fn(Subject) -> Option<Target>,
    ) {
        let base = values.iter().find(|(subject, _)| *subject == Subject::Forwarder).map(|&(_, value)| value);
        for &(subject, value) in values {
            let is_ours = !matches!(subject, Subject::Direct | Subject::Forwarder);
            let target = if is_ours { target(subject) } else { None };
            let ratio = base.map(|base| value / base);
            self.add(Row { figure: figure.to_owned(), subject: subject.name(), value, unit, ratio, target });
        }
    }

    /// A figure that could not be measured.
    pub(crate) fn skipped(&mut self, figure: &str, why: &io::Error) {
        println!("{figure:<40} skipped: {why}");
        self.0.push(Row {
            figure: figure.to_owned(),
            subject: "skipped",
            value: f64::NAN,
            unit: "",
            ratio: None,
            target: None,
        });
    }

    fn add(&mut self, row: Row) {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
        let verdict = row.verdict().map_or("", |met| if met { "met" } else { "MISSED" });
        let limit = match row.target {
            Some(Target::AtMost(limit)) => format!("at most {limit}"),
            Some(Target::AtLeast(limit)) => format!("at least {limit}"),
            None => String::new(),
        };
        let (figure, subject, value, unit) = (&row.figure, row.subject, row.value, row.unit);
        println!("{figure:<40} {subject:<10} {value:>14.3} {unit:<9} {ratio:>8}  {limit:<14} {verdict}");
        self.0.push(row);
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let rows: Vec<Value> = self.0.iter().map(Row::json).collect();
        std::fs::write(path, serde_json::to_vec_pretty(&json!({ "schema": 1, "figures": rows }))?)
    }
}

impl Row {
    fn verdict(&self) -> Option<bool> {
        self.target.map(|target| target.is_met(self.ratio.unwrap_or(self.value)))
    }

    fn json(&self) -> Value {
        json!({
            "figure": self.figure,
            "subject": self.subject,
            "value": self.value,
            "unit": self.unit,
            "ratio_to_forwarder": self.ratio,
            "is_met": self.verdict(),
        })
    }
}
