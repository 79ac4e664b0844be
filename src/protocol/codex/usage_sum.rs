//! Adds up the token usage of several responses, with all details that the backend reports.

use serde::Deserialize as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Usage;

/// A sum of `usage` objects: numbers are added at any depth, of other values the first is kept.
#[derive(Debug, Default)]
pub struct JsonUsageSum(Option<Map<String, Value>>);

impl JsonUsageSum {
    /// Adds the `usage` object of a response. Anything else is ignored.
    pub fn add(&mut self, usage: &RawValue) {
        let Ok(Value::Object(usage)) = serde_json::from_str(usage.get()) else { return };
        match &mut self.0 {
            Some(sum) => add_members(sum, usage),
            None => self.0 = Some(usage),
        }
    }

    /// The sum; `None` if no response reported its usage.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let sum = Value::Object(self.0.clone()?);
        Usage::deserialize(&sum).ok()
    }

    /// The sum as JSON; `None` if no response reported its usage.
    #[must_use]
    pub fn json(&self) -> Option<String> {
        self.0.as_ref().map(|sum| Value::Object(sum.clone()).to_string())
    }
}

fn add_members(sum: &mut Map<String, Value>, other: Map<String, Value>) {
    for (name, value) in other {
        match (sum.get_mut(&name), value) {
            (Some(Value::Object(sum)), Value::Object(value)) => add_members(sum, value),
            (Some(Value::Number(sum)), Value::Number(value)) => add_numbers(sum, &value),
            (Some(Value::Null) | None, value) => {
                sum.insert(name, value);
            }
            (Some(_), _) => {}
        }
    }
}

fn add_numbers(sum: &mut serde_json::Number, other: &serde_json::Number) {
    let total = match (sum.as_u64(), other.as_u64()) {
        (Some(sum), Some(other)) => Some(sum.saturating_add(other).into()),
        _ => sum.as_f64().zip(other.as_f64()).and_then(|(sum, other)| serde_json::Number::from_f64(sum + other)),
    };
    if let Some(total) = total {
        *sum = total;
    }
}
