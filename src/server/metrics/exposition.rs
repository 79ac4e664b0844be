//! The page in Prometheus' text form, as it is written.

use std::fmt::{Display, Write as _};

/// The page as it grows.
pub(in crate::server) struct Exposition(pub(super) String);

impl Exposition {
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    pub(in crate::server) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        written.expect("a text takes whatever is written");
    }

    pub(in crate::server) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels.iter().map(|(label, word)| format!("{label}=\"{}\"", escaped(word))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        writeln!(self.0, "{name}{labels} {value}").expect("a text takes whatever is written");
    }
}

/// A label's value as the form has it.
fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::Exposition;

    #[test]
    fn no_label_can_break_out() {
        let mut page = Exposition(String::new());
        page.sample("x", &[("model", "a\"} 1\nb\\")], 2);
        assert_eq!(page.0, "x{model=\"a\\\"} 1\\nb\\\\\"} 2\n");
    }
}
