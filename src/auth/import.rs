//! Imports the logins of other programs.
//!
//! An imported login is only read: its file is never written, and its refresh token isn't stored, because using it
//! would sign the other program out. Taking a login over copies the refresh token to our store; from then on the
//! session is ours. Supports the Codex CLI's `auth.json` and the token files of LiteLLM and LangChain; other files are
//! refused with a reason. Errors never quote the file.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use crate::auth::Settings;
use crate::auth::credential::{Credential, Ownership, TokenResponseError};
use crate::auth::store::Store;
use crate::command_hint::command;
use crate::fs::read_text;
use crate::secret::Secret;
use crate::token_source::AuthError;

/// Maximum size of a login file.
const LIMIT_BYTES: u64 = 1024 * 1024;

const CODEX_CLI: &str = "the Codex CLI";
const LITELLM: &str = "LiteLLM";
const LANGCHAIN: &str = "LangChain";

/// How another program's login is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// Only its access token is used, and read again when the file changes; the other program refreshes it.
    Borrow,
    /// We refresh it from now on. This signs the other program out sooner or later.
    TakeOver,
}

/// Why another program's login can't be imported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The file doesn't exist or can't be read.
    #[error("{path}: {reason}; sign in with the other program first, or run `{}`", command("login"))]
    NoFile {
        /// The file.
        path: String,
        /// Why it can't be read.
        reason: String,
    },
    /// The file contains no usable ChatGPT login.
    #[error("{path}: {reason}")]
    Unsuitable {
        /// The file.
        path: String,
        /// Why it is unusable.
        reason: String,
    },
    /// Our own store can't be used.
    #[error(transparent)]
    Store(AuthError),
}

/// The contents of a login file.
struct LoginFile {
    credential: Credential,
    owner: &'static str,
    issuer: Option<String>,
    client_id: Option<String>,
}

/// Imports another program's login and makes its account the active one.
///
/// # Errors
/// If the file contains no usable login, or the store can't be written.
pub async fn import(
    store: &Store,
    settings: &Settings,
    path: &Path,
    mode: ImportMode,
) -> Result<Credential, ImportError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = find(&path).await?;
    let credential = match mode {
        ImportMode::Borrow => borrowed(found, path),
        ImportMode::TakeOver => taken_over(found, settings, &path)?,
    };
    add(store, &credential).await.map_err(ImportError::Store)?;
    Ok(credential)
}

/// Reads the file of an imported login again.
pub(in crate::auth) async fn reread(path: &Path) -> Result<Credential, ImportError> {
    Ok(borrowed(find(path).await?, path.to_owned()))
}

/// Stores an account and makes it the active one.
pub(in crate::auth) async fn add(store: &Store, credential: &Credential) -> Result<(), AuthError> {
    let locked = store.lock().await?;
    let mut document = locked.read().await?;
    document.put(credential);
    document.set_active(&credential.account_id);
    locked.write(&document).await
}

fn borrowed(found: LoginFile, path: PathBuf) -> Credential {
    let ownership = Ownership::Borrowed { path, owner: found.owner.to_owned() };
    Credential { refresh_token: None, ownership, ..found.credential }
}

fn taken_over(found: LoginFile, settings: &Settings, path: &Path) -> Result<Credential, ImportError> {
    let is_foreign =
        |theirs: &Option<String>, ours: &str| theirs.as_deref().is_some_and(|text| text.trim_end_matches('/') != ours);
    if is_foreign(&found.issuer, settings.issuer.as_str()) || is_foreign(&found.client_id, &settings.client_id) {
        let reason = "the login was issued by another issuer or for another client than in the settings auth.url and \
                      auth.client_id, so it can't be refreshed; import it without --take-over";
        return Err(unsuitable(path, reason));
    }
    if found.credential.refresh_token.is_none() {
        return Err(unsuitable(path, "it contains no refresh token to take over; import it without --take-over"));
    }
    Ok(found.credential)
}

/// Reads a login file of any supported program.
async fn find(path: &Path) -> Result<LoginFile, ImportError> {
    let bytes = read_file(path).await.map_err(|error| match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::FileTooLarge => unsuitable(path, &error.to_string()),
        _ => ImportError::NoFile { path: path.display().to_string(), reason: error.to_string() },
    })?;
    let file: Value = serde_json::from_slice(&bytes).map_err(|_| unsuitable(path, "it is not JSON"))?;
    if let Some(owner) = flat_owner(&file) {
        return read_flat(&file, owner).map_err(|error| unsuitable(path, &error.to_string()));
    }
    if let Some(reason) = refusal(&file) {
        return Err(unsuitable(path, reason));
    }
    read_codex_cli(&file).map_err(|error| unsuitable(path, &error.to_string()))
}

async fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_text(&path, LIMIT_BYTES)).await;
    read.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Returns why a file is not a Codex CLI login, according to its mode, or else its contents.
fn refusal(file: &Value) -> Option<&'static str> {
    const UNKNOWN: &str = "it is not a login file of a supported program: these are the Codex CLI (auth.json), LiteLLM \
                           and LangChain";
    const API_KEY: &str = "it contains an API key, which doesn't use a ChatGPT subscription";
    const ACCESS_TOKEN: &str = "it contains a personal access token, which can't be imported";
    const AGENT: &str = "it contains an agent identity, which can't be imported";
    let has = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let has_tokens = has(&file["tokens"]["access_token"]);
    match file["auth_mode"].as_str() {
        Some(mode) if mode.eq_ignore_ascii_case("apikey") => Some(API_KEY),
        Some("agentIdentity") => Some(AGENT),
        Some("chatgpt" | "chatgptAuthTokens") if has_tokens => None,
        Some("chatgpt" | "chatgptAuthTokens") => Some("its tokens are missing; sign in with the Codex CLI again"),
        _ if has(&file["personal_access_token"]) => Some(ACCESS_TOKEN),
        _ if has_tokens => None,
        _ if has(&file["OPENAI_API_KEY"]) => Some(API_KEY),
        _ if !file["agent_identity"].is_null() => Some(AGENT),
        _ if !file["device_code_requested_at"].is_null() => {
            Some("its tokens are missing; finish the sign-in with LiteLLM first")
        }
        _ => Some(UNKNOWN),
    }
}

/// Reads the `auth.json` of the Codex CLI.
fn read_codex_cli(file: &Value) -> Result<LoginFile, TokenResponseError> {
    let tokens = &file["tokens"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let secret = |name: &str| text(&tokens[name]).map(Secret::new);
    let last_refresh = text(&file["last_refresh"]).and_then(|text| timestamp(&text));
    let access_token = secret("access_token").ok_or(TokenResponseError::Missing("access_token"))?;
    let named = text(&tokens["account_id"]);
    let credential =
        Credential::from_tokens(named, secret("id_token"), access_token, secret("refresh_token"), last_refresh)?;
    let provenance = &tokens["oauth_provenance"];
    let (issuer, client_id) = (text(&provenance["issuer"]), text(&provenance["client_id"]));
    Ok(LoginFile { credential, owner: CODEX_CLI, issuer, client_id })
}

/// Returns the program that writes files with the tokens at the top level. LangChain writes the expiry as a date,
/// LiteLLM as a number.
fn flat_owner(file: &Value) -> Option<&'static str> {
    let has_token = file["access_token"].as_str().is_some_and(|text| !text.is_empty());
    let is_flat = has_token && file["tokens"].is_null() && file["auth_mode"].is_null() && file["version"].is_null();
    is_flat.then(|| if file["expires_at"].is_string() { LANGCHAIN } else { LITELLM })
}

/// Reads a file with the tokens at the top level.
fn read_flat(file: &Value, owner: &'static str) -> Result<LoginFile, TokenResponseError> {
    let text = |name: &str| file[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let secret = |name: &str| text(name).map(Secret::new);
    let access_token = secret("access_token").ok_or(TokenResponseError::Missing("access_token"))?;
    let (id_token, refresh_token) = (secret("id_token"), secret("refresh_token"));
    let credential = Credential::from_tokens(text("account_id"), id_token, access_token, refresh_token, None)?;
    let expiry = match &file["expires_at"] {
        Value::String(date) => timestamp(&date.replace("+00:00", "Z")),
        number => number.as_f64().and_then(|seconds| {
            std::time::UNIX_EPOCH.checked_add(std::time::Duration::try_from_secs_f64(seconds).ok()?)
        }),
    };
    let expires_at = credential.expires_at.or(expiry);
    Ok(LoginFile { credential: Credential { expires_at, ..credential }, owner, issuer: None, client_id: None })
}

fn timestamp(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}

fn unsuitable(path: &Path, reason: &str) -> ImportError {
    ImportError::Unsuitable { path: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::{flat_owner, read_codex_cli, read_flat, refusal};

    fn token(account: &str) -> String {
        let payload = json!({"https://api.openai.com/auth": {"chatgpt_account_id": account}});
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload.to_string()))
    }

    #[test]
    fn the_mode_decides_and_without_it_the_contents() {
        let tokens = json!({"access_token": "t"});
        for (file, is_login) in [
            (json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk", "tokens": tokens}), true),
            (json!({"OPENAI_API_KEY": null, "tokens": tokens}), true),
            (json!({"OPENAI_API_KEY": "sk", "tokens": tokens}), true),
            (json!({"OPENAI_API_KEY": "sk", "tokens": null}), false),
            (json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk", "tokens": tokens}), false),
            (json!({"personal_access_token": "at-1", "tokens": tokens}), false),
            (json!({"auth_mode": "chatgpt"}), false),
            (json!({"agent_identity": "x"}), false),
            (json!({"type": "other"}), false),
            (json!([1]), false),
        ] {
            assert_eq!(refusal(&file).is_none(), is_login, "{file}");
        }
    }

    #[test]
    fn an_absent_account_id_is_taken_from_the_id_token_then_the_access_token() {
        let account =
            |tokens: Value| read_codex_cli(&json!({ "tokens": tokens })).map(|found| found.credential.account_id);
        let (a, b) = (token("acct-a"), token("acct-b"));
        assert_eq!(account(json!({"account_id": "acct-x", "id_token": a, "access_token": b})).unwrap(), "acct-x");
        assert_eq!(account(json!({"account_id": null, "id_token": a, "access_token": b})).unwrap(), "acct-a");
        assert_eq!(account(json!({"account_id": null, "access_token": b})).unwrap(), "acct-b");
        assert!(account(json!({"access_token": "opaque"})).is_err());
    }

    #[test]
    fn flat_files_are_distinguished_by_the_form_of_the_expiry() {
        let end = |file: Value| {
            let owner = flat_owner(&file)?;
            let found = read_flat(&file, owner).unwrap();
            Some((owner, found.credential.expires_at.map(crate::clock::rfc3339)))
        };
        let at = Some("2026-11-20T23:56:40Z".to_owned());
        let file = |end: Value| json!({"access_token": token("a"), "refresh_token": "r", "account_id": null, "expires_at": end});
        assert_eq!(end(file(json!(1_795_219_000))), Some(("LiteLLM", at.clone())));
        assert_eq!(end(file(json!(1_795_219_000.5))), Some(("LiteLLM", at.clone())));
        assert_eq!(end(file(json!("2026-11-20T23:56:40.983630+00:00"))), Some(("LangChain", at)));
        assert_eq!(end(file(Value::Null)), Some(("LiteLLM", None)));
        assert_eq!(end(json!({"tokens": {"access_token": "t"}})), None);
        assert_eq!(end(json!({"device_code_requested_at": 1})), None);
    }

    #[test]
    fn nanoseconds_of_the_last_refresh_are_read() {
        let file = json!({"last_refresh": "2026-11-20T23:56:40.983630663Z", "tokens": {"access_token": token("a")}});
        assert!(read_codex_cli(&file).unwrap().credential.last_refresh.is_some());
    }
}
