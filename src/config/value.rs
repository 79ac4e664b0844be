//! The types that a setting can have: how each is parsed and printed.
//!
//! A value is text (environment, command line, default) or TOML (config file); both forms parse to the same type. Error
//! messages usually contain the rejected value; those of types that hold secrets must not.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::ValueEnum;
use toml::de::DeValue;

use super::list::quoted;
use crate::auth::BackendKind;
use crate::endpoint::without_userinfo;
use crate::history::UsageStore;
use crate::protocol::chat::ReasoningField;
use crate::protocol::models::{Effort, RouteCondition};
use crate::protocol::responses::Store;
use crate::protocol::tokens::TokenLimit;
use crate::token_source::CredentialSource;
use crate::upstream::{AcceptEncoding, BodyForm, Compression, Transport};

/// The longest duration that a setting can have. Adding it to the current time never overflows.
const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The type of a setting.
pub(super) trait Setting: Sized {
    /// Describes the allowed values, as in "a duration such as 30s". Error messages say "must be …".
    fn expected() -> Cow<'static, str>;

    /// Parses a value from an environment variable, the command line, or the table of defaults.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Parses a value from the config file.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| wrong_type::<Self>(value))?;
        Self::from_text(text)
    }

    /// Formats the value as TOML, without secrets.
    fn show(&self) -> String;
}

/// A setting that is one of the names that the enum's `ValueEnum` derive lists.
trait NamedChoice: ValueEnum {}

/// A duration above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(pub(super) Duration);

/// A number of bytes above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteCount(pub(super) u64);

/// A number of whole days above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Days(pub(super) u32);

/// A whole number of percent from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent(pub(super) u8);

/// The minimum severity of log records (`log.level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// No records.
    Off,
    /// Errors.
    Error,
    /// Errors and warnings.
    Warn,
    /// Also one record per request.
    Info,
    /// Also the steps of each request.
    Debug,
    /// Everything.
    Trace,
}

/// The format of log records (`log.format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain lines.
    Text,
    /// One JSON object per line.
    Json,
}

/// The error message for a TOML value of the wrong type. It doesn't include the value.
pub(super) fn wrong_type<T: Setting>(value: &DeValue<'_>) -> String {
    format!("must be {}, not a TOML {}", T::expected(), value.type_str())
}

/// Formats a string, decimal integer or boolean as the text that an environment variable would hold.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}

/// The error message for text that doesn't parse. It includes the text, except for user names and passwords in URLs.
pub(super) fn invalid_value<T: Setting>(text: &str) -> String {
    format!("must be {}, not '{}'", T::expected(), without_userinfo(text).escape_default())
}

impl<T: NamedChoice> Setting for T {
    fn expected() -> Cow<'static, str> {
        let names: Vec<_> = T::value_variants().iter().map(name).collect();
        format!("one of {}", names.join(", ")).into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        <T as ValueEnum>::from_str(text, false).map_err(|_| invalid_value::<Self>(text))
    }

    fn show(&self) -> String {
        quoted(&name(self))
    }
}

/// The name of a choice in the settings.
fn name<T: ValueEnum>(value: &T) -> String {
    value.to_possible_value().map(|name| name.get_name().to_owned()).unwrap_or_default()
}

impl NamedChoice for BodyForm {}
impl NamedChoice for Compression {}
impl NamedChoice for CredentialSource {}
impl NamedChoice for AcceptEncoding {}
impl NamedChoice for Effort {}
impl NamedChoice for LogFormat {}
impl NamedChoice for LogLevel {}
impl NamedChoice for BackendKind {}
impl NamedChoice for ReasoningField {}
impl NamedChoice for Store {}
impl NamedChoice for TokenLimit {}
impl NamedChoice for Transport {}
impl NamedChoice for UsageStore {}
impl NamedChoice for RouteCondition {}

impl Setting for bool {
    fn expected() -> Cow<'static, str> {
        "true or false".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| wrong_type::<Self>(value))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    fn expected() -> Cow<'static, str> {
        "a whole number".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = value.as_integer().ok_or_else(|| wrong_type::<Self>(value))?;
        Self::from_str_radix(number.as_str(), number.radix()).map_err(|_| invalid_value::<Self>(number.as_str()))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for NonZeroU32 {
    fn expected() -> Cow<'static, str> {
        "a whole number above zero".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = u32::from_toml(value).map_err(|_| wrong_type::<Self>(value))?;
        Self::new(number).ok_or_else(|| invalid_value::<Self>("0"))
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for Percent {
    fn expected() -> Cow<'static, str> {
        "a whole number from 1 to 100".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let percent = text.parse().ok().filter(|percent| (1..=100).contains(percent));
        percent.map(Self).ok_or_else(|| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let number = u32::from_toml(value).map_err(|_| wrong_type::<Self>(value))?;
        Self::from_text(&number.to_string())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

impl Setting for Duration {
    fn expected() -> Cow<'static, str> {
        "a duration of at most 30d, such as 30s, 5m or 1h30m".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).ok().filter(|duration| *duration <= MAX_DURATION);
        duration.ok_or_else(|| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_text(&scalar(value).ok_or_else(|| wrong_type::<Self>(value))?)
    }

    fn show(&self) -> String {
        quoted(&humantime::format_duration(*self).to_string().replace(' ', ""))
    }
}

impl Setting for Timeout {
    fn expected() -> Cow<'static, str> {
        "a duration above zero and of at most 30d, such as 30s or 5m".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let duration = Duration::from_text(text).ok().filter(|duration| !duration.is_zero());
        duration.map(Self).ok_or_else(|| invalid_value::<Self>(text))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Self::from_text(&scalar(value).ok_or_else(|| wrong_type::<Self>(value))?)
    }

    fn show(&self) -> String {
        self.0.show()
    }
}

impl Setting for Days {
    fn expected() -> Cow<'static, str> {
        "a number of whole days, such as 90d".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|digits| digits.parse::<u32>().ok());
        days.filter(|days| *days > 0).map(Self).ok_or_else(|| invalid_value::<Self>(text))
    }

    fn show(&self) -> String {
        quoted(&format!("{}d", self.0))
    }
}

impl Setting for ByteCount {
    fn expected() -> Cow<'static, str> {
        "a size above zero, such as 64MiB".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err(invalid_value::<Self>(text)),
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
