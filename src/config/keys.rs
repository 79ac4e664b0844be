//! The keys that clients must show (`[[keys]]`, `CODEX_PROXY_API_KEYS`).
//!
//! A key is hashed where it is read: the settings hold its SHA-256 and its name. No complaint, no
//! list and no debug output repeats a key. Only [`plain`] gives keys in their own words, for the
//! settings of a client on this machine; it reads them anew.

use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use super::layer::Raw;
use super::list::quoted;
use super::nearest::suggestion;
use super::value::{Setting, wrong_type};
use crate::secret::Secret;
use crate::server::ClientKey;

const MEMBERS: [&str; 6] = ["name", "key", "key_sha256", "account", SHARE, ADMIN];
/// The one that is a number.
const SHARE: &str = "window_percent";
/// The one that is true or false.
const ADMIN: &str = "admin";
/// A key of fewer characters can be guessed by another machine.
pub(super) const LONG_CHARACTERS: usize = 16;

/// The keys of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) keys: Vec<ClientKey>,
    /// Names of the keys that are given as text of fewer than [`LONG_CHARACTERS`].
    pub(super) short: Vec<String>,
}

impl Setting for Keys {
    const EXPECTED: &'static str = "[[keys]] with name and key or key_sha256 (in a variable: keys, comma separated)";

    fn from_text(text: &str) -> Result<Self, String> {
        let mut keys = Self { keys: Vec::new(), short: Vec::new() };
        for (index, key) in bare(text).enumerate() {
            let name = format!("env-{}", index + 1);
            let sha256 = hash(key).map_err(|fault| format!("key {}: {fault}", index + 1))?;
            keys.add(ClientKey { name, sha256, account: None, window_percent: None, is_admin: false }, Some(key));
        }
        Ok(keys)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let tables = value.as_array().ok_or_else(|| wrong_type::<Self>(value))?;
        let (mut keys, mut faults) = (Self { keys: Vec::new(), short: Vec::new() }, Vec::new());
        for (index, table) in tables.iter().enumerate() {
            match table.get_ref().as_table().ok_or_else(|| vec!["a table is expected".to_owned()]).and_then(read) {
                Ok((key, _)) if keys.keys.iter().any(|other| other.name == key.name) => {
                    faults.push(format!("keys[{index}]: the name {} is taken", quoted(&key.name)));
                }
                Ok((key, text)) => keys.add(key, text),
                Err(complaints) => {
                    faults.extend(complaints.iter().map(|complaint| format!("keys[{index}]: {complaint}")));
                }
            }
        }
        if faults.is_empty() { Ok(keys) } else { Err(faults.join("; ")) }
    }

    fn show(&self) -> String {
        // Not in the form in which keys are read, so that a listing can't be taken for settings.
        let names: Vec<_> = self.keys.iter().map(|key| quoted(&key.name)).collect();
        format!("[{}]", names.join(", "))
    }
}

impl Keys {
    /// Adds a key, with its text where that is known.
    fn add(&mut self, key: ClientKey, text: Option<&str>) {
        if text.is_some_and(|text| text.len() < LONG_CHARACTERS) {
            self.short.push(key.name.clone());
        }
        self.keys.push(key);
    }
}

/// The keys of a source in their own words, with their names; those of which only a hash is there are left out.
pub(super) fn plain(raw: Raw<'_>) -> Vec<(String, Secret)> {
    let in_variable = |(index, key): (usize, &str)| (format!("env-{}", index + 1), Secret::new(key));
    let in_file = |table: &DeValue<'_>| {
        let text = |member: &str| table.as_table()?.get(member)?.get_ref().as_str().map(str::trim);
        Some((text("name")?.to_owned(), Secret::new(text("key")?)))
    };
    match raw {
        Raw::Text(text) => bare(text).enumerate().map(in_variable).collect(),
        Raw::Toml(value) => {
            value.as_array().into_iter().flatten().filter_map(|table| in_file(table.get_ref())).collect()
        }
    }
}

/// The keys of a variable.
fn bare(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|key| !key.is_empty())
}

/// Reads one `[[keys]]`, and the text of its key where that is given; everything that is wrong with it at once.
fn read<'t>(table: &'t DeTable<'_>) -> Result<(ClientKey, Option<&'t str>), Vec<String>> {
    let mut faults = Vec::new();
    for (member, value) in table {
        let member = member.get_ref().as_ref();
        if !MEMBERS.contains(&member) {
            faults.push(format!("unknown member '{member}'{}", suggestion(member, MEMBERS)));
        } else if ![SHARE, ADMIN].contains(&member) && value.get_ref().as_str().is_none() {
            faults.push(format!("{member} has to be a text"));
        }
    }
    let text = |member: &str| table.get(member).and_then(|value| value.get_ref().as_str());
    let name = text("name").map(str::trim).filter(|name| !name.is_empty());
    if name.is_none() && !faults.iter().any(|fault| fault.starts_with("name ")) {
        faults.push("name is missing".to_owned());
    }
    let key = text("key").map(str::trim);
    let sha256 = match (key, text("key_sha256")) {
        (Some(key), None) => hash(key),
        (None, Some(digits)) => digest(digits),
        (Some(_), Some(_)) => Err("give either key or key_sha256, not both".to_owned()),
        (None, None) => Err("key or key_sha256 is missing".to_owned()),
    };
    let window_percent = table.get(SHARE).map(|value| share(value.get_ref())).transpose();
    faults.extend(window_percent.as_ref().err().cloned());
    let is_admin = table.get(ADMIN).map(|value| bool::from_toml(value.get_ref())).transpose();
    faults.extend(is_admin.as_ref().err().map(|fault| format!("{ADMIN}: {fault}")));
    let account = text("account").map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
    match (name, sha256) {
        (Some(name), Ok(sha256)) if faults.is_empty() => {
            let (window_percent, is_admin) =
                (window_percent.unwrap_or_default(), is_admin.ok().flatten().unwrap_or(false));
            Ok((ClientKey { name: name.to_owned(), sha256, account, window_percent, is_admin }, key))
        }
        (_, sha256) => {
            faults.extend(sha256.err());
            Err(faults)
        }
    }
}

/// How much of a window may be used before the key is refused. At 100 it would never be.
fn share(value: &DeValue<'_>) -> Result<u8, String> {
    let percent = u32::from_toml(value).ok().and_then(|percent| u8::try_from(percent).ok());
    percent
        .filter(|percent| (1..100).contains(percent))
        .ok_or_else(|| format!("{SHARE} is a whole number from 1 to 99"))
}

fn hash(key: &str) -> Result<[u8; 32], String> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a key is printable ASCII without spaces, so that it fits into a header".to_owned());
    }
    Ok(Sha256::digest(key).into())
}

fn digest(digits: &str) -> Result<[u8; 32], String> {
    let complaint = || "key_sha256 is the SHA-256 of the key in 64 hexadecimal digits".to_owned();
    let mut digest = [0; 32];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(complaint());
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let pair = std::str::from_utf8(pair).map_err(|_| complaint())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| complaint())?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::{Keys, Raw, Setting, plain};

    /// SHA-256 of `sk-local`.
    const DIGEST: &str = "7c9f8cb332edbdb1679a6876df821b38cfee40359a5540148444f31446af1ff4";

    fn from_file(text: &str) -> Result<Keys, String> {
        let table = toml::de::DeTable::parse(text).unwrap();
        Keys::from_toml(table.get_ref().get("keys").unwrap().get_ref())
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
    fn keys_of_less_than_sixteen_characters_are_known() {
        let short = |key: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = '{key}'")).unwrap().short;
        assert_eq!((short("123456789012345").len(), short(" 123456789012345 ").len()), (1, 1));
        assert_eq!(short("1234567890123456").len(), 0);
        assert_eq!(Keys::from_text("1234567890123456, x").unwrap().short, ["env-2"]);
    }

    #[test]
    fn a_key_can_be_an_admin_key() {
        let admin = |value: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = 'x'\n{value}"));
        let is_admin = |value: &str| admin(value).unwrap().keys[0].is_admin;
        assert!(is_admin("admin = true") && !is_admin("admin = false") && !is_admin(""));
        let complaint = admin("admin = 'true'").unwrap_err();
        assert!(complaint.contains("keys[0]: admin: true or false is expected"), "{complaint}");
    }

    #[test]
    fn a_key_can_be_bound_to_an_account() {
        let Keys { keys, .. } = from_file("[[keys]]\nname = 'a'\nkey = 'x'\naccount = ' acct-2 '").unwrap();
        assert_eq!(keys[0].account.as_deref(), Some("acct-2"));
    }

    #[test]
    fn a_key_can_leave_a_share_of_the_windows_to_others() {
        let key = |share: &str| from_file(&format!("[[keys]]\nname = 'a'\nkey = 'x'\nwindow_percent = {share}"));
        assert_eq!(key("50").unwrap().keys[0].window_percent, Some(50));
        for share in ["0", "100", "-1", "'50'", "0.5"] {
            assert!(key(share).unwrap_err().contains("window_percent is a whole number from 1 to 99"), "{share}");
        }
    }

    #[test]
    fn a_variable_holds_bare_keys() {
        let Keys { keys, .. } = Keys::from_text("one, two,").unwrap();
        assert_eq!(keys.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["env-1", "env-2"]);
    }

    #[test]
    fn keys_in_their_own_words_come_with_their_names() {
        let text = format!("[[keys]]\nname = 'a'\nkey = ' one '\n[[keys]]\nname = 'b'\nkey_sha256 = '{DIGEST}'");
        let table = toml::de::DeTable::parse(&text).unwrap();
        let keys = plain(Raw::Toml(table.get_ref().get("keys").unwrap().get_ref()));
        let told: Vec<_> = keys.iter().map(|(name, key)| (name.as_str(), key.expose())).collect();
        assert_eq!(told, [("a", "one")]);
        let keys = plain(Raw::Text("one, two,"));
        assert_eq!(keys.iter().map(|(_, key)| key.expose()).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn every_fault_is_named_and_no_key_repeated() {
        let text = format!(
            "[[keys]]\nname = 'a'\nkey = 'private words'\n[[keys]]\nkey = 'private'\nkey_sha256 = '{DIGEST}'\n\
             [[keys]]\nname = 'b'\nkye = 'private'\n[[keys]]\nname = 'c'\nkey_sha256 = 'private'"
        );
        let complaint = from_file(&text).unwrap_err();
        for part in
            ["keys[0]: a key is", "keys[1]: name is missing", "keys[1]: give either", "did you mean 'key'", "64 hex"]
        {
            assert!(complaint.contains(part), "{part}: {complaint}");
        }
        assert!(!complaint.contains("private"), "{complaint}");
    }

    #[test]
    fn two_keys_of_one_name_are_refused() {
        let complaint = from_file("[[keys]]\nname = 'a'\nkey = 'x'\n[[keys]]\nname = 'a'\nkey = 'y'").unwrap_err();
        assert!(complaint.contains("taken"), "{complaint}");
    }

    #[test]
    fn a_list_shows_names_only() {
        let shown = from_file("[[keys]]\nname = 'laptop'\nkey = 'private'").unwrap().show();
        assert!(shown.contains("laptop") && !shown.contains("private"), "{shown}");
    }
}
