//! Client keys (`[[keys]]`, `CODEX_PROXY_API_KEYS`).
//!
//! Keys are hashed as they are parsed: the settings hold only SHA-256 digests, and no message, listing or debug output
//! contains a key. Only [`plain_keys`] returns the keys themselves, for the settings of a client program on this
//! machine.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use super::list::quoted;
use super::schema::Unparsed;
use super::suggestion::suggestion;
use super::value::{Setting, wrong_type};
use crate::secret::Secret;
use crate::server::ClientKey;

/// The members of a `[[keys]]` table. All but [`SHARE`] and [`ADMIN`] are strings.
const MEMBERS: [&str; 6] = ["name", "key", "key_sha256", "account", SHARE, ADMIN];
/// The share of each quota window up to which the key may be used: a number.
const SHARE: &str = "window_percent";
/// Whether the key is an admin key: a boolean.
const ADMIN: &str = "admin";
/// The minimum length of keys if other machines can connect. Shorter keys could be guessed.
pub(super) const MIN_REMOTE_KEY_CHARACTERS: usize = 16;

/// The client keys from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientKeys {
    pub(super) keys: Vec<ClientKey>,
    /// Names of the plain-text keys shorter than [`MIN_REMOTE_KEY_CHARACTERS`].
    pub(super) short: Vec<String>,
}

impl Setting for ClientKeys {
    fn expected() -> Cow<'static, str> {
        "[[keys]] with name and key or key_sha256 (in a variable: keys, comma separated)".into()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let mut keys = Self { keys: Vec::new(), short: Vec::new() };
        for (index, key) in split(text).enumerate() {
            let name = format!("env-{}", index + 1);
            let sha256 = hash(key).map_err(|error| format!("key {}: {error}", index + 1))?;
            keys.add(ClientKey { name, sha256, account: None, window_percent: None, is_admin: false }, Some(key));
        }
        Ok(keys)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let tables = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        let (mut keys, mut errors) = (Self { keys: Vec::new(), short: Vec::new() }, Vec::new());
        for (index, table) in tables.iter().enumerate() {
            match table.get_ref().as_table().ok_or_else(|| vec!["must be a table".to_owned()]).and_then(read) {
                Ok((key, _)) if keys.keys.iter().any(|other| other.name == key.name) => {
                    errors
                        .push(format!("keys[{index}]: the name {} is already used by another key", quoted(&key.name)));
                }
                Ok((key, text)) => keys.add(key, text),
                Err(messages) => {
                    errors.extend(messages.iter().map(|message| format!("keys[{index}]: {message}")));
                }
            }
        }
        if errors.is_empty() { Ok(keys) } else { Err(errors.join("; ")) }
    }

    fn show(&self) -> String {
        // Names only, in a form that the parser rejects, so that the output can't be mistaken for a config.
        let names: Vec<_> = self.keys.iter().map(|key| quoted(&key.name)).collect();
        format!("[{}]", names.join(", "))
    }
}

impl ClientKeys {
    /// Adds a key. `text` is the key itself, if known.
    fn add(&mut self, key: ClientKey, text: Option<&str>) {
        if text.is_some_and(|text| text.len() < MIN_REMOTE_KEY_CHARACTERS) {
            self.short.push(key.name.clone());
        }
        self.keys.push(key);
    }
}

/// Returns the names and plain text of the keys from one source, except those given as a hash. Names are those that
/// [`ClientKeys`] has. Assumes that the source has no errors.
pub(super) fn plain_keys(raw: Unparsed<'_>) -> Vec<(String, Secret)> {
    let from_variable = |(index, key): (usize, &str)| (format!("env-{}", index + 1), Secret::new(key));
    let from_table = |table: &DeValue<'_>| {
        let text = |member: &str| table.as_table()?.get(member)?.get_ref().as_str().map(str::trim);
        Some((text("name")?.to_owned(), Secret::new(text("key")?)))
    };
    match raw {
        Unparsed::Text(text) => split(text).enumerate().map(from_variable).collect(),
        Unparsed::Toml(value) => {
            value.as_array().into_iter().flatten().filter_map(|table| from_table(table.get_ref())).collect()
        }
    }
}

/// Splits the value of an environment variable into keys.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|key| !key.is_empty())
}

/// Parses one `[[keys]]` table. Returns the key, with its text if the table contains it, or all errors.
fn read<'t>(table: &'t DeTable<'_>) -> Result<(ClientKey, Option<&'t str>), Vec<String>> {
    let mut errors = Vec::new();
    for (member, value) in table {
        let member = member.get_ref().as_ref();
        if !MEMBERS.contains(&member) {
            errors.push(format!("unknown member '{member}'{}", suggestion(member, MEMBERS)));
        } else if ![SHARE, ADMIN].contains(&member) && value.get_ref().as_str().is_none() {
            errors.push(format!("{member} must be a string"));
        }
    }
    let text = |member: &str| table.get(member).and_then(|value| value.get_ref().as_str());
    let name = text("name").map(str::trim).filter(|name| !name.is_empty());
    if name.is_none() && !errors.iter().any(|error| error.starts_with("name ")) {
        errors.push("name is missing".to_owned());
    }
    let key = text("key").map(str::trim);
    let sha256 = match (key, text("key_sha256")) {
        (Some(key), None) => hash(key),
        (None, Some(digits)) => digest(digits),
        (Some(_), Some(_)) => Err("set either key or key_sha256, not both".to_owned()),
        (None, None) => Err("key or key_sha256 is missing".to_owned()),
    };
    let window_percent = table.get(SHARE).map(|value| share(value.get_ref())).transpose();
    errors.extend(window_percent.as_ref().err().cloned());
    let is_admin = table.get(ADMIN).map(|value| bool::from_toml(value.get_ref())).transpose();
    errors.extend(is_admin.as_ref().err().map(|error| format!("{ADMIN}: {error}")));
    let account = text("account").map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
    match (name, sha256) {
        (Some(name), Ok(sha256)) if errors.is_empty() => {
            let (window_percent, is_admin) =
                (window_percent.unwrap_or_default(), is_admin.ok().flatten().unwrap_or(false));
            Ok((ClientKey { name: name.to_owned(), sha256, account, window_percent, is_admin }, key))
        }
        (_, sha256) => {
            errors.extend(sha256.err());
            Err(errors)
        }
    }
}

/// Parses the share of a quota window up to which the key may be used. 100 is rejected: it would be no limit.
fn share(value: &DeValue<'_>) -> Result<u8, String> {
    let percent = u32::from_toml(value).ok().and_then(|percent| u8::try_from(percent).ok());
    percent
        .filter(|percent| (1..100).contains(percent))
        .ok_or_else(|| format!("{SHARE} must be a whole number from 1 to 99"))
}

/// Returns the SHA-256 of a key, if the key is valid.
fn hash(key: &str) -> Result<[u8; 32], String> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key must be printable ASCII without spaces, because clients send it in a header".to_owned());
    }
    Ok(Sha256::digest(key).into())
}

/// Parses a SHA-256 in hexadecimal.
fn digest(digits: &str) -> Result<[u8; 32], String> {
    let message = || "key_sha256 must be the SHA-256 of the key as 64 hexadecimal digits".to_owned();
    let mut digest = [0; 32];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(message());
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).map_err(|_| message())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| message())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::{ClientKeys, Setting, Unparsed, plain_keys};

    /// SHA-256 of `sk-local`.
    const DIGEST: &str = "7c9f8cb332edbdb1679a6876df821b38cfee40359a5540148444f31446af1ff4";

    fn from_file(text: &str) -> Result<ClientKeys, String> {
        let table = toml::de::DeTable::parse(text).unwrap();
        ClientKeys::from_toml(table.get_ref().get("keys").unwrap().get_ref())
    }

    #[test]
    fn a_key_and_its_digest_are_the_same() {
        let plain = from_file("[[keys]]\nname = 'a'\nkey = 'sk-local'").unwrap();
        let hashed = from_file(&format!("[[keys]]\nname = 'a'\nkey_sha256 = '{DIGEST}'")).unwrap();
        assert_eq!(plain.keys, hashed.keys);
        assert_eq!(
            (plain.short, hashed.short),
            (vec!["a".to_owned()], Vec::new()),
            "the length of a hashed key is unknown"
        );
    }

    #[test]
    fn keys_shorter_than_sixteen_characters_are_listed() {
        let short = |key: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = '{key}'")).unwrap().short;
        assert_eq!((short("123456789012345").len(), short(" 123456789012345 ").len()), (1, 1));
        assert_eq!(short("1234567890123456").len(), 0);
        assert_eq!(ClientKeys::from_text("1234567890123456, x").unwrap().short, ["env-2"]);
    }

    #[test]
    fn a_key_can_be_an_admin_key() {
        let admin = |value: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = 'x'\n{value}"));
        let is_admin = |value: &str| admin(value).unwrap().keys[0].is_admin;
        assert!(is_admin("admin = true") && !is_admin("admin = false") && !is_admin(""));
        let message = admin("admin = 'true'").unwrap_err();
        assert!(message.contains("keys[0]: admin: must be true or false"), "{message}");
    }

    #[test]
    fn a_key_can_be_bound_to_an_account() {
        let ClientKeys { keys, .. } = from_file("[[keys]]\nname = 'a'\nkey = 'x'\naccount = ' acct-2 '").unwrap();
        assert_eq!(keys[0].account.as_deref(), Some("acct-2"));
    }

    #[test]
    fn a_key_can_be_limited_to_a_share_of_the_quota_windows() {
        let key = |share: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = 'x'\nwindow_percent = {share}"));
        assert_eq!(key("50").unwrap().keys[0].window_percent, Some(50));
        for share in ["0", "100", "-1", "'50'", "0.5"] {
            assert!(key(share).unwrap_err().contains("window_percent must be a whole number from 1 to 99"), "{share}");
        }
    }

    #[test]
    fn a_variable_holds_keys_without_names() {
        let ClientKeys { keys, .. } = ClientKeys::from_text("one, two,").unwrap();
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["env-1", "env-2"]);
    }

    #[test]
    fn plain_keys_have_names_and_leave_out_hashed_keys() {
        let text = format!("[[keys]]\nname = 'a'\nkey = ' one '\n[[keys]]\nname = 'b'\nkey_sha256 = '{DIGEST}'");
        let table = toml::de::DeTable::parse(&text).unwrap();
        let keys = plain_keys(Unparsed::Toml(table.get_ref().get("keys").unwrap().get_ref()));
        let pairs: Vec<_> = keys.iter().map(|(name, key)| (name.as_str(), key.expose())).collect();
        assert_eq!(pairs, [("a", "one")]);
        let keys = plain_keys(Unparsed::Text("one, two,"));
        assert_eq!(keys.iter().map(|(_, key)| key.expose()).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn all_errors_are_reported_without_keys() {
        let text = format!(
            "[[keys]]\nname = 'a'\nkey = 'private words'\n[[keys]]\nkey = 'private'\nkey_sha256 = '{DIGEST}'\n\
             [[keys]]\nname = 'b'\nkye = 'private'\n[[keys]]\nname = 'c'\nkey_sha256 = 'private'"
        );
        let message = from_file(&text).unwrap_err();
        for part in [
            "keys[0]: a key must be",
            "keys[1]: name is missing",
            "keys[1]: set either",
            "did you mean 'key'",
            "64 hex",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("private"), "{message}");
    }

    #[test]
    fn two_keys_with_the_same_name_are_rejected() {
        let message = from_file("[[keys]]\nname = 'a'\nkey = 'x'\n[[keys]]\nname = 'a'\nkey = 'y'").unwrap_err();
        assert!(message.contains("already used"), "{message}");
    }

    #[test]
    fn show_prints_names_only() {
        let shown = from_file("[[keys]]\nname = 'laptop'\nkey = 'private'").unwrap().show();
        assert!(shown.contains("laptop") && !shown.contains("private"), "{shown}");
    }
}
