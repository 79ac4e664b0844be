//! The kinds of settings that are lists and tables: arrays in the file, comma separated in a variable.
//!
//! Hosts and origins are held in the form in which a browser sends them, so that the doors can
//! compare them as they are.

use std::collections::BTreeMap;

use toml::de::DeValue;
use url::{Host, Url};

use super::value::{Setting, not_expected, wrong_type};
use crate::endpoint::without_userinfo;

/// Names and what they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aliases(pub(super) BTreeMap<String, String>);

/// Host names without port, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hosts(pub(super) Vec<String>);

/// Origins of web pages, as a browser writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origins(pub(super) Vec<String>);

/// OAuth scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes(pub(super) Vec<String>);

/// A text in TOML's quotes.
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

/// Reads an array of texts with one reader for its elements; every element at fault is named.
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

fn read_all<'t>(
    texts: impl Iterator<Item = Result<&'t str, String>>,
    read: fn(&str) -> Result<String, String>,
) -> Result<Vec<String>, String> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for text in texts {
        match text.and_then(read) {
            Ok(text) => good.push(text),
            Err(complaint) => bad.push(complaint),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad.join("; ")) }
}

fn read_host(text: &str) -> Result<String, String> {
    let host = Host::parse(text).map_err(|_| {
        let text = without_userinfo(text);
        format!("'{}' is not a host name (write it without scheme, port and path)", text.escape_default())
    })?;
    Ok(host.to_string().to_ascii_lowercase())
}

fn read_origin(text: &str) -> Result<String, String> {
    let shape = "an origin is scheme://host, with the port if there is one";
    if text == "*" || text == "null" {
        return Err(format!("'{text}' would let any web page in; {shape}"));
    }
    let url = Url::parse(text).ok().filter(|url| {
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        is_bare && url.has_host() && url.username().is_empty() && url.password().is_none()
    });
    let url = url.ok_or_else(|| format!("'{}' is not an origin; {shape}", without_userinfo(text).escape_default()))?;
    let origin = url.origin();
    if origin.is_tuple() {
        return Ok(origin.ascii_serialization());
    }
    // The origin of a browser extension, whose scheme the URL standard does not know.
    Ok(format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()))
}

fn read_scope(text: &str) -> Result<String, String> {
    let is_scope = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_scope { Ok(text.to_owned()) } else { Err(format!("'{}' is not a scope", text.escape_default())) }
}

impl Setting for Hosts {
    const EXPECTED: &'static str = "a list of host names";

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
    const EXPECTED: &'static str = "a list of origins such as https://chat.example.com";

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
    const EXPECTED: &'static str = "a list of OAuth scopes";

    fn from_text(text: &str) -> Result<Self, String> {
        let words = text.split([',', ' ']).filter(|part| !part.is_empty());
        read_all(words.map(Ok), read_scope).map(Self)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        read_array::<Self>(value, read_scope).map(Self)
    }

    fn show(&self) -> String {
        quoted_list(&self.0)
    }
}

impl Setting for Aliases {
    const EXPECTED: &'static str = "a table of names and models (in a variable: name=model, comma separated)";

    fn from_text(text: &str) -> Result<Self, String> {
        let mut aliases = BTreeMap::new();
        for pair in split(text) {
            match pair.split_once('=').map(|(name, model)| (name.trim(), model.trim())) {
                Some((name, model)) if !name.is_empty() && !model.is_empty() => {
                    aliases.insert(name.to_owned(), model.to_owned())
                }
                _ => return Err(not_expected::<Self>(pair)),
            };
        }
        Ok(Self(aliases))
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let table = value.as_table().ok_or_else(|| wrong_type::<Self>(value))?;
        let mut aliases = BTreeMap::new();
        for (name, model) in table {
            let model = model.get_ref().as_str().filter(|model| !model.trim().is_empty());
            let model = model.ok_or_else(|| format!("'{}' has to stand for the name of a model", name.get_ref()))?;
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
