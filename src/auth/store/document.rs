//! The document of the credential store: versioned JSON, keyed by account id.
//!
//! Unknown members of the document and of each account survive every change. Text that can't be parsed is an error,
//! never an empty store, so that it isn't overwritten. Errors name members and never quote values, which may be
//! tokens. Pure.

use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::auth::credential::{Credential, Ownership, RenewalRefusal};
use crate::secret::Secret;

const VERSION: u64 = 1;
/// The member with the version of the release that wrote the document.
const RELEASE: &str = "written_by";

/// The accounts of a store.
#[derive(Clone)]
pub struct Document(Map<String, Value>);

/// Why a document can't be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON, or a known member has a wrong type.
    #[error("it is damaged ({0})")]
    Damaged(String),
    /// JSON of another program.
    #[error("it is not a credential file of codex-proxy")]
    Foreign,
    /// Written by a later release.
    #[error("it has version {version}, which {release} wrote; this release reads version {VERSION}")]
    Newer {
        /// The version of the document.
        version: u64,
        /// The release that wrote it, for messages.
        release: String,
    },
}

impl Document {
    /// Creates a document without accounts.
    #[must_use]
    pub fn empty() -> Self {
        let Value::Object(members) = json!({"version": VERSION, "active": null, "accounts": {}}) else {
            unreachable!("the literal above is an object")
        };
        Self(members)
    }

    /// Parses a document.
    ///
    /// # Errors
    /// If it is damaged, of another program or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.trim_ascii().is_empty() {
            return Err(DocumentError::Damaged("it is empty".to_owned()));
        }
        // Only the position: serde's messages can quote values.
        let at =
            |error: &serde_json::Error| format!("invalid JSON at line {}, column {}", error.line(), error.column());
        let value: Value = serde_json::from_slice(bytes).map_err(|error| DocumentError::Damaged(at(&error)))?;
        let Value::Object(members) = value else { return Err(DocumentError::Foreign) };
        match members.get("version").map(Value::as_u64) {
            Some(Some(VERSION)) if members.get("accounts").is_some_and(Value::is_object) => Ok(Self(members)),
            Some(Some(version)) if version > VERSION => {
                Err(DocumentError::Newer { version, release: release(&members) })
            }
            _ => Err(DocumentError::Foreign),
        }
    }

    /// Returns the text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut members = self.0.clone();
        members.insert(RELEASE.to_owned(), json!(env!("CARGO_PKG_VERSION")));
        let value = Value::Object(members);
        format!("{value:#}\n")
    }

    /// Returns the ids of all accounts, in order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.accounts().into_iter().flat_map(Map::keys).map(String::as_str)
    }

    /// Returns the id of the active account, if there is one.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        let id = self.0.get("active")?.as_str()?;
        self.accounts()?.contains_key(id).then_some(id)
    }

    /// Returns the credential of an account.
    ///
    /// # Errors
    /// If a required member is missing, or a member has a wrong type.
    pub fn get(&self, id: &str) -> Result<Option<Credential>, DocumentError> {
        let Some(entry) = self.accounts().and_then(|accounts| accounts.get(id)) else { return Ok(None) };
        let entry =
            entry.as_object().ok_or_else(|| DocumentError::Damaged("an account is not an object".to_owned()))?;
        AccountMembers(entry).credential(id).map(Some)
    }

    /// Adds or replaces an account. Its unknown members are kept.
    pub fn put(&mut self, credential: &Credential) {
        let entry = self.accounts_mut().entry(credential.account_id.clone()).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        if let Value::Object(members) = entry {
            write(members, credential);
        }
    }

    /// Makes an account the active one.
    pub fn set_active(&mut self, id: &str) {
        self.0.insert("active".to_owned(), json!(id));
    }

    /// Removes an account. If it was the active one, no account is active.
    pub fn remove(&mut self, id: &str) {
        self.accounts_mut().remove(id);
        if self.0.get("active").and_then(Value::as_str) == Some(id) {
            self.0.insert("active".to_owned(), Value::Null);
        }
    }

    fn accounts(&self) -> Option<&Map<String, Value>> {
        self.0.get("accounts")?.as_object()
    }

    fn accounts_mut(&mut self) -> &mut Map<String, Value> {
        let Some(Value::Object(accounts)) = self.0.get_mut("accounts") else {
            unreachable!("both constructors require the member")
        };
        accounts
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document").field("accounts", &self.accounts().map_or(0, Map::len)).finish_non_exhaustive()
    }
}

/// Returns the release that wrote a document, if the member contains a version number.
fn release(members: &Map<String, Value>) -> String {
    let is_number = |text: &&str| text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match members.get(RELEASE).and_then(Value::as_str).filter(is_number) {
        Some(number) => format!("codex-proxy {number}"),
        None => "a later release of codex-proxy".to_owned(),
    }
}

/// The members of an account. Errors contain no values.
struct AccountMembers<'a>(&'a Map<String, Value>);

impl AccountMembers<'_> {
    fn credential(&self, id: &str) -> Result<Credential, DocumentError> {
        let access_token = self.secret("access_token")?;
        let last_refresh = self.time("last_refresh")?;
        // Older releases keep this member when they store new tokens, which it doesn't apply to.
        let is_current = |refused: &SystemTime| last_refresh.is_none_or(|granted| granted <= *refused);
        let refused_at = self.time("refused_at")?.filter(is_current);
        Ok(Credential {
            account_id: id.to_owned(),
            email: self.secret("email")?,
            plan: self.text("plan")?,
            is_fedramp: self.flag("is_fedramp")?,
            id_token: self.secret("id_token")?,
            access_token: access_token.ok_or_else(|| Self::wrong("access_token"))?,
            refresh_token: self.secret("refresh_token")?,
            expires_at: self.time("expires_at")?,
            last_refresh,
            ownership: self.ownership()?,
            refusal: self.refusal()?,
            refused_at,
        })
    }

    fn ownership(&self) -> Result<Ownership, DocumentError> {
        let from = match self.0.get("borrowed") {
            None | Some(Value::Null) => return Ok(Ownership::Owned),
            Some(Value::Object(from)) => Self::borrowed(&AccountMembers(from))?,
            Some(_) => None,
        };
        from.ok_or_else(|| Self::wrong("borrowed"))
    }

    fn borrowed(from: &AccountMembers<'_>) -> Result<Option<Ownership>, DocumentError> {
        let (Some(path), Some(owner)) = (from.text("path")?, from.text("owner")?) else { return Ok(None) };
        Ok(Some(Ownership::Borrowed { path: PathBuf::from(path), owner }))
    }

    fn refusal(&self) -> Result<Option<RenewalRefusal>, DocumentError> {
        let Some(Value::Object(members)) = self.0.get("refusal") else { return Ok(None) };
        let members = AccountMembers(members);
        Ok(members.text("reason")?.zip(members.time("at")?).map(|(reason, at)| RenewalRefusal { reason, at }))
    }

    fn text(&self, name: &str) -> Result<Option<String>, DocumentError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Self::wrong(name)),
        }
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, DocumentError> {
        Ok(self.text(name)?.map(Secret::new))
    }

    fn flag(&self, name: &str) -> Result<bool, DocumentError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| Self::wrong(name)),
        }
    }

    fn time(&self, name: &str) -> Result<Option<SystemTime>, DocumentError> {
        let parse = |text: String| humantime::parse_rfc3339(&text).map_err(|_| Self::wrong(name));
        self.text(name)?.map(parse).transpose()
    }

    fn wrong(name: &str) -> DocumentError {
        DocumentError::Damaged(format!("the member {name} of an account is missing or has a wrong type"))
    }
}

fn write(members: &mut Map<String, Value>, credential: &Credential) {
    let secret = |secret: &Option<Secret>| secret.as_ref().map_or(Value::Null, |secret| json!(secret.expose()));
    let time = |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339(time).to_string());
    let borrowed = match &credential.ownership {
        Ownership::Owned => Value::Null,
        Ownership::Borrowed { path, owner } => json!({"path": path.to_string_lossy(), "owner": owner}),
    };
    let refusal = credential
        .refusal
        .as_ref()
        .map_or(Value::Null, |refusal| json!({"reason": refusal.reason, "at": time(Some(refusal.at))}));
    let known = [
        ("email", secret(&credential.email)),
        ("plan", json!(credential.plan)),
        ("is_fedramp", json!(credential.is_fedramp)),
        ("id_token", secret(&credential.id_token)),
        ("access_token", json!(credential.access_token.expose())),
        ("refresh_token", secret(&credential.refresh_token)),
        ("expires_at", json!(time(credential.expires_at))),
        ("last_refresh", json!(time(credential.last_refresh))),
        ("borrowed", borrowed),
        ("refusal", refusal),
        ("refused_at", json!(time(credential.refused_at))),
    ];
    members.extend(known.map(|(name, value)| (name.to_owned(), value)));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Document, DocumentError};
    use crate::auth::credential::{Credential, Ownership, RenewalRefusal};
    use crate::secret::Secret;

    fn credential(id: &str) -> Credential {
        Credential {
            account_id: id.to_owned(),
            email: Some(Secret::new("ann@example.com")),
            plan: Some("plus".to_owned()),
            is_fedramp: true,
            id_token: None,
            access_token: Secret::new("at_1"),
            refresh_token: Some(Secret::new("rt_1")),
            expires_at: Some(UNIX_EPOCH + Duration::from_secs(5)),
            last_refresh: Some(UNIX_EPOCH + Duration::from_nanos(1_500_000_001)),
            ownership: Ownership::Owned,
            refusal: Some(RenewalRefusal { reason: "used".to_owned(), at: UNIX_EPOCH }),
            refused_at: Some(UNIX_EPOCH + Duration::from_secs(2)),
        }
    }

    #[test]
    fn a_credential_is_read_back_as_written() {
        for ownership in [Ownership::Owned, Ownership::Borrowed { path: "/x/auth.json".into(), owner: "it".to_owned() }]
        {
            let mut document = Document::empty();
            document.put(&Credential { ownership, ..credential("a") });
            let read = Document::parse(document.to_text().as_bytes()).unwrap();
            let (put, got) = (document.get("a").unwrap().unwrap(), read.get("a").unwrap().unwrap());
            assert_eq!(format!("{put:?}"), format!("{got:?}"));
            assert_eq!(got.access_token.expose(), "at_1");
            assert!(got.has_refresh_token(&Secret::new("rt_1")));
            assert_eq!(got.email.unwrap().expose(), "ann@example.com");
        }
    }

    #[test]
    fn unknown_members_survive_a_change() {
        let text = r#"{"version":1,"active":"a","later":{"x":1},"accounts":{"a":{"access_token":"t","nick":"work"}}}"#;
        let mut document = Document::parse(text.as_bytes()).unwrap();
        document.put(&credential("a"));
        let value: serde_json::Value = serde_json::from_str(&document.to_text()).unwrap();
        assert_eq!(value["later"]["x"], 1);
        assert_eq!(value["accounts"]["a"]["nick"], "work");
        assert_eq!(value["accounts"]["a"]["access_token"], "at_1");
    }

    #[test]
    fn a_refusal_of_earlier_tokens_is_ignored() {
        let refused_at = |last_refresh: &str| {
            let account =
                format!(r#"{{"access_token":"t","refused_at":"2026-11-28T12:00:00Z","last_refresh":{last_refresh}}}"#);
            let text = format!(r#"{{"version":1,"accounts":{{"a":{account}}}}}"#);
            Document::parse(text.as_bytes()).unwrap().get("a").unwrap().unwrap().refused_at
        };
        assert!(refused_at("null").is_some());
        assert!(refused_at(r#""2026-11-28T11:00:00Z""#).is_some());
        assert!(refused_at(r#""2026-11-28T12:00:00Z""#).is_some());
        assert_eq!(refused_at(r#""2026-11-28T12:00:01Z""#), None);
    }

    #[test]
    fn accounts_are_independent() {
        let mut document = Document::empty();
        document.put(&credential("a"));
        document.set_active("a");
        document.put(&credential("b"));
        assert_eq!(document.ids().collect::<Vec<_>>(), ["a", "b"]);
        document.remove("b");
        assert_eq!(document.active(), Some("a"));
        document.remove("a");
        assert_eq!((document.active(), document.ids().count()), (None, 0));
    }

    #[test]
    fn text_that_can_not_be_parsed_is_an_error() {
        let of = |text: &str| Document::parse(text.as_bytes()).unwrap_err();
        for damaged in ["", " \n", "{", "nonsense", r#"{"version":1,"accounts":{"#] {
            assert!(matches!(of(damaged), DocumentError::Damaged(_)), "{damaged}");
        }
        for foreign in ["[]", "7", "{}", r#"{"tokens":{}}"#, r#"{"version":"1"}"#, r#"{"version":1,"accounts":[]}"#] {
            assert_eq!(of(foreign), DocumentError::Foreign, "{foreign}");
        }
        for (text, want) in [
            (r#"{"version":2,"accounts":{}}"#, "a later release of codex-proxy"),
            (r#"{"version":2,"accounts":{},"written_by":"0.9.1"}"#, "codex-proxy 0.9.1"),
            (r#"{"version":2,"accounts":{},"written_by":"at-SECRET"}"#, "a later release of codex-proxy"),
        ] {
            assert_eq!(of(text), DocumentError::Newer { version: 2, release: want.to_owned() });
        }
    }

    #[test]
    fn an_error_never_quotes_a_value() {
        let text = r#"{"version":1,"accounts":{"a":{"access_token":["SECRET"]}}}"#;
        let error = Document::parse(text.as_bytes()).unwrap().get("a").unwrap_err();
        assert!(error.to_string().contains("access_token") && !error.to_string().contains("SECRET"), "{error}");
        let broken = Document::parse(br#"{"version":1,"accounts":{"a":SECRET}}"#).unwrap_err();
        assert!(!broken.to_string().contains("SECRET"), "{broken}");
    }
}
