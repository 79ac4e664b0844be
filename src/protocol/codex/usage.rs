//! Token usage as the backend reports it. Cached tokens are part of the input tokens, reasoning tokens part of the
//! output tokens.

use serde::Deserialize;

/// Token usage of a response. Missing and null members are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, including cached ones.
    pub input_tokens: u64,
    /// Input tokens read from the cache.
    pub cached_tokens: u64,
    /// Input tokens written to the cache; not reported by all models.
    pub cache_write_tokens: Option<u64>,
    /// All output tokens, including reasoning.
    pub output_tokens: u64,
    /// Output tokens used for reasoning.
    pub reasoning_tokens: u64,
    /// The backend's total; if it reports none, the sum of input and output tokens.
    pub total_tokens: u64,
}

impl Usage {
    /// Returns the sum with another usage.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let written = [self.cache_write_tokens, other.cache_write_tokens].into_iter().flatten();
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            cache_write_tokens: written.reduce(u64::saturating_add),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            total_tokens: self.total_tokens.saturating_add(other.total_tokens),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UsageWire {
    input_tokens: Option<u64>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
    total_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl<'de> Deserialize<'de> for Usage {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = UsageWire::deserialize(deserializer)?;
        let input = wire.input_tokens_details.unwrap_or_default();
        let output = wire.output_tokens_details.unwrap_or_default();
        let (input_tokens, output_tokens) = (wire.input_tokens.unwrap_or(0), wire.output_tokens.unwrap_or(0));
        Ok(Self {
            input_tokens,
            cached_tokens: input.cached_tokens.unwrap_or(0),
            cache_write_tokens: input.cache_write_tokens,
            output_tokens,
            reasoning_tokens: output.reasoning_tokens.unwrap_or(0),
            total_tokens: wire.total_tokens.unwrap_or_else(|| input_tokens.saturating_add(output_tokens)),
        })
    }
}
