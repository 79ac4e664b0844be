//! Settings that are lists or tables of strings: comma separated in an environment variable.
//!
//! Hosts and origins are normalized to the form in which browsers send them, so that they can be compared with request
//! headers byte by byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use toml::de::DeValue;
use url::{Host, Url};

use super::value::{Setting, invalid_value, wrong_type};
use crate::endpoint::without_userinfo;

/// Model aliases: name to model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aliases(pub(super) BTreeMap<String, String>);

/// Host names without port, in lowercase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts(pub(super) Vec<String>);

/// Origins of web pages (`scheme://host:port`), in the spelling of browsers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origins(pub(super) Vec<String>);

/// OAuth scopes, separated by commas or spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes(pub(super) Vec<String>);

/// Formats a string as a TOML literal.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Parses an array of strings with `read` and reports all invalid elements.
fn read_array<T: Setting>(
    value: &DeValue<'_>,
    read: fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    let array = value.as_array().ok_or_else(|| wrong_type::<T>(value))?;
    read_all(
        array.iter().map(|element| element.get_ref().as_str().ok_or_else(|| wrong_type::<T>(element.get_ref()))),
        read,
    )
}

/// Parses texts with `read` and reports all invalid ones.
fn read_all<'t>(
    texts: impl Iterator<Item = Result<&'t str, String>>,
    read: fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in texts {
        match text.and_then(read) {
            Ok(text) => good.push(text),
            Err(message) => bad.push(message),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad.join("; ")) }
}

fn read_host(text: &str) -> Result<String, String> {
    let host = Host::parse(text).map_err(|_| {
        let text = without_userinfo(text);
        format!("'{}' is not a host name; write it without scheme, port and path", text.escape_default())
    })?;
    Ok(host.to_string().to_ascii_lowercase())
}

fn read_origin(text: &str) -> Result<String, String> {
    let form = "an origin is scheme://host or scheme://host:port";
    if text == "*" || text == "null" {
        return Err(format!("'{text}' would allow every web page; {form}"));
    }
    let url = Url::parse(text).ok().filter(|url| {
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        is_bare && url.has_host() && url.username().is_empty() && url.password().is_none()
    });
    let url = url.ok_or_else(|| format!("'{}' is not an origin; {form}", without_userinfo(text).escape_default()))?;
    let origin = url.origin();
    if origin.is_tuple() {
        return Ok(origin.ascii_serialization());
    }
    // The URL standard defines no origin for the schemes of browser extensions.
    Ok(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()))
}

fn read_scope(text: &str) -> Result<String, String> {
    let is_scope = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_scope { Ok(text.to_owned()) } else { Err(format!("'{}' is not a scope", text.escape_default())) }
}

impl Setting for Hosts {
    fn expected() -> Cow<'static, str> {
        "a list of host names".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        read_all(split(text).map(Ok), read_host).map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        read_array::<Self>(value, read_host).map(Self)
    }

    fn show(&self) -> String {
        quoted_list(&self.0)
    }
}

impl Setting for Origins {
    fn expected() -> Cow<'static, str> {
        "a list of origins such as https://chat.example.com".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        read_all(split(text).map(Ok), read_origin).map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        read_array::<Self>(value, read_origin).map(Self)
    }

    fn show(&self) -> String {
        quoted_list(&self.0)
    }
}

impl Setting for Scopes {
    fn expected() -> Cow<'static, str> {
        "a list of OAuth scopes".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let scopes = text.split([',', ' ']).filter(|part| !part.is_empty());
        read_all(scopes.map(Ok), read_scope).map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        read_array::<Self>(value, read_scope).map(Self)
    }

    fn show(&self) -> String {
        quoted_list(&self.0)
    }
}

impl Setting for Aliases {
    fn expected() -> Cow<'static, str> {
        "a table of names and models (in a variable: name=model, comma separated)".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let mut aliases = BTreeMap::new();
        for pair in split(text) {
            match pair.split_once('=').map(|(name, model)| (name.trim(), model.trim())) {
                Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                    aliases.insert(name.to_owned(), model.to_owned())
                }
                _ => return Err(invalid_value::<Self>(pair)),
            };
        }
        Ok(Self(aliases))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| wrong_type::<Self>(value))?;
        let mut aliases = BTreeMap::new();
        for (name, model) in table {
            let model = model.get_ref().as_str().filter(|model| !model.trim().is_empty());
            let model = model
                .ok_or_else(|| format!("the model of alias '{}' must be a string that isn't empty", name.get_ref()))?;
            aliases.insert(name.get_ref().to_string(), model.to_owned());
        }
        Ok(Self(aliases))
    }

    fn show(&self) -> String {
        let pairs: Vec<_> =
            self.0.iter().map(|(name, model)| format!("{} = {}", quoted(name), quoted(model))).collect();
        if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
    }
}
