//! How one value of a setting reads and shows.
//!
//! A value comes as text (environment, command line, default) or as TOML; both ways end in the same
//! type and the same complaint. What a complaint says may be printed: kinds that hold secrets never
//! repeat what they were given.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::list::quoted;
use crate::auth::Place;
use crate::endpoint::without_userinfo;
use crate::history::UsageStore;
use crate::protocol::chat::ReasoningField;
use crate::protocol::models::{Effort, RouteCondition};
use crate::protocol::responses::Store;
use crate::protocol::tokens::TokenLimit;
use crate::upstream::{BodyForm, Compression, Transport};

/// The longest duration that a setting can have. Any point in time plus this can be represented.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A type that a key of the settings can have.
pub(super) trait Setting: Sized {
    /// What is expected, for complaints: "a duration such as 30s".
    const EXPECTED: &'static str;

    /// Reads the value as it stands in a variable, on the command line, or in the table of defaults.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Reads the value as it stands in the file.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| wrong_type::<Self>(value))?;
        Self::from_text(text)
    }

    /// The value as TOML, secrets hidden.
    fn show(&self) -> String;
}

/// A named choice out of a few.
pub(super) trait Choice: Copy + PartialEq + 'static {
    /// What is expected, for complaints.
    const EXPECTED: &'static str;
    /// Each choice under its name.
    const NAMES: &'static [(&'static str, Self)];
}

/// A duration longer than nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(pub(super) Duration);

/// A number of bytes above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

/// A number of whole days above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Days(pub(super) u32);

/// How much the log says (`log.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing.
    Off,
    /// Failures.
    Error,
    /// And what needs attention.
    Warn,
    /// And one line for a request.
    Info,
    /// And the steps of a request.
    Debug,
    /// And everything else.
    Trace,
}

/// How a log line looks (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The complaint about a TOML value of the wrong type; the value itself is not repeated.
pub(super) fn wrong_type<T: Setting>(value: &DeValue<'_>) -> String {
    format!("{} is expected, not TOML type {}", T::EXPECTED, value.type_str())
}

/// The text of a TOML value that needs no quotes to be understood.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The complaint about a text that does not fit.
pub(super) fn not_expected<T: Setting>(text: &str) -> String {
    format!("{} is expected, not '{}'", T::EXPECTED, without_userinfo(text).escape_default())
}

impl<T: Choice> Setting for T {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_text(text: &str) -> Result<Self, String> {
        let found = T::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, choice)| *choice).ok_or_else(|| not_expected::<Self>(text))
    }

    fn show(&self) -> String {
        let found = T::NAMES.iter().find(|(_, choice)| choice == self);
        quoted(found.map_or("", |(name, _)| name))
    }
}

impl Choice for Place {
    const EXPECTED: &'static str = "one of file, keyring";
    const NAMES: &'static [(&'static str, Self)] = &[("file", Self::File), ("keyring", Self::Keyring)];
}

impl Choice for Level {
    const EXPECTED: &'static str = "one of off, error, warn, info, debug, trace";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

impl Choice for Format {
    const EXPECTED: &'static str = "one of text, json";
    const NAMES: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for Effort {
    const EXPECTED: &'static str = "one of none, minimal, low, medium, high, xhigh, max";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("minimal", Self::Minimal),
        ("low", Self::Low),
        ("medium", Self::Medium),
        ("high", Self::High),
        ("xhigh", Self::Xhigh),
        ("max", Self::Max),
        ("ultra", Self::Xhigh),
    ];
}

impl Choice for RouteCondition {
    const EXPECTED: &'static str = "one of always, think, web_search";
    const NAMES: &'static [(&'static str, Self)] =
        &[("always", Self::Always), ("think", Self::Think), ("web_search", Self::WebSearch)];
}

impl Choice for TokenLimit {
    const EXPECTED: &'static str = "one of ignore, enforce, reject";
    const NAMES: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("enforce", Self::Enforce), ("reject", Self::Reject)];
}

impl Choice for Store {
    const EXPECTED: &'static str = "one of memory, disk, off";
    const NAMES: &'static [(&'static str, Self)] =
        &[("memory", Self::Memory), ("disk", Self::Disk), ("off", Self::Off)];
}

impl Choice for UsageStore {
    const EXPECTED: &'static str = "one of disk, memory, off";
    const NAMES: &'static [(&'static str, Self)] =
        &[("disk", Self::Disk), ("memory", Self::Memory), ("off", Self::Off)];
}

impl Choice for Transport {
    const EXPECTED: &'static str = "one of sse, websocket, auto";
    const NAMES: &'static [(&'static str, Self)] =
        &[("sse", Self::Sse), ("websocket", Self::WebSocket), ("auto", Self::Auto)];
}

impl Choice for BodyForm {
    const EXPECTED: &'static str = "one of classic, lite, auto";
    const NAMES: &'static [(&'static str, Self)] =
        &[("classic", Self::Classic), ("lite", Self::Lite), ("auto", Self::Auto)];
}

impl Choice for Compression {
    const EXPECTED: &'static str = "one of auto, zstd, none";
    const NAMES: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("zstd", Self::Zstd), ("none", Self::None)];
}

impl Choice for ReasoningField {
    const EXPECTED: &'static str = "one of reasoning_content, reasoning, both, think_tags, none";
    const NAMES: &'static [(&'static str, Self)] = &[
        ("reasoning_content", Self::ReasoningContent),
        ("reasoning", Self::Reasoning),
        ("both", Self::Both),
        ("think_tags", Self::ThinkTags),
        ("none", Self::None),
    ];
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| not_expected::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong_type::<Self>(value))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    const EXPECTED: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| not_expected::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().ok_or_else(|| wrong_type::<Self>(value))?;
        Self::from_str_radix(number.as_str(), number.radix()).map_err(|_| not_expected::<Self>(number.as_str()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroU32 {
    const EXPECTED: &'static str = "a whole number above zero";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| not_expected::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = u32::from_toml(value).map_err(|_| wrong_type::<Self>(value))?;
        Self::new(number).ok_or_else(|| not_expected::<Self>("0"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration of at most 30d, such as 30s, 5m or 1h30m,";

    fn from_text(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= LONGEST);
        duration.ok_or_else(|| not_expected::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_text(&scalar(value).ok_or_else(|| wrong_type::<Self>(value))?)
    }

    fn show(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string().replace(' ', ""))
    }
}

impl Setting for Timeout {
    const EXPECTED: &'static str = "a duration above zero and of at most 30d, such as 30s or 5m,";

    fn from_text(text: &str) -> Result<Self, String> {
        let duration = Duration::from_text(text).ok().filter(|duration| !duration.is_zero());
        duration.map(Self).ok_or_else(|| not_expected::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_text(&scalar(value).ok_or_else(|| wrong_type::<Self>(value))?)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Setting for Days {
    const EXPECTED: &'static str = "a number of whole days, such as 90d,";

    fn from_text(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|digits| digits.parse::<u32>().ok());
        days.filter(|days| *days > 0).map(Self).ok_or_else(|| not_expected::<Self>(text))
    }

    fn show(&self) -> String {
        quoted(&format!("{}d", self.0))
    }
}

impl Setting for Size {
    const EXPECTED: &'static str = "a size above zero, such as 64MiB,";

    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err(not_expected::<Self>(text)),
        }
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_text(&scalar(value).ok_or_else(|| wrong_type::<Self>(value))?)
    }

    fn show(&self) -> String {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let unit = units.iter().find(|(_, bytes)| self.0.is_multiple_of(*bytes));
        quoted(&unit.map_or_else(|| format!("{}B", self.0), |(name, bytes)| format!("{}{name}", self.0 / bytes)))
    }
}
