//! Decides which requests are served, before any handler reads them.
//!
//! A web page must not be able to use the subscription. Requests with a `Host` that isn't this machine (DNS rebinding),
//! an `Origin` or site that isn't allowed, or a POST that a page could send without a preflight (any content type but
//! JSON) are refused, whether or not client keys are set. Forms with files (`super::multipart`) are accepted on the
//! paths that need them, and so are cancellations without a body and a content type; for these, too, a site that isn't
//! allowed is refused. A valid key in a header, which a page can't send without a preflight, allows any host and site;
//! a connection over the Unix socket allows any host. With keys set, every path but `/health` and `/ready` requires
//! one; without keys, requests of other users of this machine are refused. Keys are compared as hashes, in constant
//! time. A CORS preflight from an allowed origin needs no key, since it can't carry one.
//!
//! Clients of the Gemini API may send the key in the query (`?key=`), which a page that knows the key can do too: such
//! a key is accepted only for their API below `/v1beta`, and doesn't allow other hosts.
//!
//! A browser sends a key by HTTP Basic, and then with every request to this origin, including those that other pages
//! cause. Such a key is accepted only for reading the page at `/`, and doesn't allow other hosts.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use url::{Host, Url};

use super::api_flavor::ApiFlavor;
use super::multipart;
use super::paths::CanonicalPath;
use super::refusals::Refusals;
use super::{Backend, LiveSettings};
use crate::endpoint::is_local;
use crate::error::{ProxyError, Refusal};
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::socket_owner::{Peer, PeerUser};
use crate::token_source::CredentialSource;

/// The path of the page.
pub(super) const PAGE: &str = "/";
const HEALTH: &str = "/health";
/// The start of the paths below which a key in the query is accepted.
const GEMINI_ROOT: &str = "/v1beta/";
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A key for clients.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Its name, for logs and usage.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// The account that its requests use; `None`: the one named by the request, or the active one.
    pub account: Option<String>,
    /// Requests are refused while more than this percentage of a quota window is used; `None`: no such limit.
    pub window_percent: Option<u8>,
    /// Whether it may read the usage of all keys. If no key may, all keys can.
    pub is_admin: bool,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientKey {
    /// A key from its text.
    #[must_use]
    pub fn from_text(name: impl Into<String>, key: &str) -> Self {
        let sha256 = Sha256::digest(key.as_bytes()).into();
        Self { name: name.into(), sha256, account: None, window_percent: None, is_admin: false }
    }
}

/// Name of the client key of a request, if keys are set.
#[derive(Clone, Debug)]
pub(super) struct KeyName(pub(super) String);

/// Limits the usage that a request may read to that of its own key. Attached only if some key is admin and this one
/// isn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnUsage {
    /// Name of the client key.
    pub(super) key: String,
    /// The account that the key is bound to.
    pub(super) account: Option<String>,
}

/// Who may use the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Client keys. If empty, no key is required.
    pub keys: Vec<ClientKey>,
    /// Host names to accept beside loopback and the listening addresses, in lower case.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may send requests, as a browser writes them.
    pub allowed_origins: Vec<String>,
    /// Whether other users of this machine may send requests when no keys are set.
    pub allow_other_users: bool,
}

/// How a connection reached the server.
#[derive(Clone, Debug)]
pub(super) enum ConnectionSource {
    /// A TCP port, which any program and any web page on the machine can reach.
    Tcp(Peer),
    /// A Unix socket, which no web page can reach.
    #[cfg(unix)]
    Unix,
}

/// The access rules that apply to one request.
#[derive(Clone, Debug)]
pub(super) struct AccessPolicy {
    pub(super) live: Arc<LiveSettings>,
    /// The addresses that the server listens on.
    pub(super) own_addresses: Arc<[IpAddr]>,
    pub(super) source: ConnectionSource,
    pub(super) backend: Backend,
    /// Whose login requests are sent with.
    pub(super) credentials: CredentialSource,
    pub(super) refusals: Arc<Refusals>,
}

/// How to respond to an accepted request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<'p> {
    /// Handle it; the client key, if a valid one was sent.
    Request(Option<&'p ClientKey>),
    /// Respond to a CORS preflight.
    Preflight,
}

impl AccessPolicy {
    /// Checks a request, and the user that sent it.
    pub(super) async fn authorize(&self, request: &Parts) -> Result<Admission<'_>, ProxyError> {
        let admission = self.admit(request)?;
        if matches!(admission, Admission::Request(_)) {
            self.check_user(request).await?;
        }
        Ok(admission)
    }

    /// Refuses a request of another user of this machine, unless a key, a setting or a simulated backend makes that
    /// safe.
    async fn check_user(&self, request: &Parts) -> Result<(), ProxyError> {
        let is_decided = self.requires_key() || self.access().allow_other_users || self.backend != Backend::ChatGpt;
        if is_decided || is_health_check(request.uri.path()) {
            return Ok(());
        }
        let user = match &self.source {
            ConnectionSource::Tcp(peer) => peer.user().await,
            // Only its owner can open the socket.
            #[cfg(unix)]
            ConnectionSource::Unix => PeerUser::Trusted,
        };
        match user {
            PeerUser::Trusted => Ok(()),
            PeerUser::Other(uid) => Err(ProxyError::ForeignUser { uid: Some(uid) }),
            PeerUser::Unknown => Err(ProxyError::ForeignUser { uid: None }),
        }
    }

    /// Checks the headers of a request.
    fn admit(&self, request: &Parts) -> Result<Admission<'_>, ProxyError> {
        check_repeated(&request.headers)?;
        let key = self.header_key(&request.headers);
        let authority = authority(request);
        let is_allowed_preflight = is_preflight(request) && self.allowed_origin(&request.headers).is_some();
        // With keys set, the request after the preflight needs a key, which allows any host name.
        let allows_any_host = key.is_some()
            || !matches!(self.source, ConnectionSource::Tcp(_))
            || (is_allowed_preflight && self.requires_key());
        if !allows_any_host && !self.is_own_host(authority) {
            return Err(ProxyError::ForeignHost { host: excerpt(authority, NAME_CHARACTERS).to_owned() });
        }
        self.check_origin(&request.headers, authority)?;
        self.check_site(request, key)?;
        if is_allowed_preflight {
            return Ok(Admission::Preflight);
        }
        let key = key.or_else(|| self.basic_auth_key(request)).or_else(|| self.query_key(request));
        if self.requires_key() && key.is_none() && !is_health_check(request.uri.path()) {
            return Err(ProxyError::KeyRequired { credentials: self.credentials });
        }
        let is_json = has_json_body(&request.headers) || is_cancellation(request);
        if request.method == Method::POST && !is_json && !multipart::is_accepted(request) {
            return Err(ProxyError::UnsupportedMediaType { expected: multipart::expected_body(request) });
        }
        Ok(Admission::Request(key))
    }

    /// The allowed origin of a request, as sent; `None`: no origin, or one that isn't allowed.
    pub(super) fn allowed_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let sent = headers.get(ORIGIN)?;
        let origin = origin_text(sent);
        self.access().allowed_origins.contains(&origin).then_some(sent)
    }

    /// Whether any origin is allowed.
    pub(super) fn allows_origins(&self) -> bool {
        !self.access().allowed_origins.is_empty()
    }

    fn access(&self) -> &AccessSettings {
        &self.live.access
    }

    /// Whether clients have to send a key.
    pub(super) fn requires_key(&self) -> bool {
        !self.access().keys.is_empty()
    }

    /// The usage that a key may read; `None`: all of it.
    pub(super) fn own_usage(&self, key: &ClientKey) -> Option<OwnUsage> {
        let has_admin = self.access().keys.iter().any(|key| key.is_admin);
        (has_admin && !key.is_admin).then(|| OwnUsage { key: key.name.clone(), account: key.account.clone() })
    }

    /// The key in a header that a page can't set without a preflight.
    fn header_key(&self, headers: &HeaderMap) -> Option<&ClientKey> {
        self.find_key(presented_key(headers, self.credentials)?)
    }

    /// The key that a browser sent as the password for the page.
    fn basic_auth_key(&self, request: &Parts) -> Option<&ClientKey> {
        let is_page = request.uri.path() == PAGE && matches!(request.method, Method::GET | Method::HEAD);
        self.find_key(&password(&request.headers).filter(|_| is_page)?)
    }

    /// The key in the query of a request to the Gemini API.
    fn query_key(&self, request: &Parts) -> Option<&ClientKey> {
        // Below this root, `/v1beta/openai` is another spelling of the OpenAI API.
        let is_gemini = request.uri.path().starts_with(GEMINI_ROOT)
            && request.extensions.get::<ApiFlavor>() == Some(&ApiFlavor::Gemini);
        let query = request.uri.query().filter(|_| is_gemini)?;
        let (_, key) = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "key")?;
        self.find_key(&key)
    }

    fn find_key(&self, presented: &str) -> Option<&ClientKey> {
        let sent: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        // Compares all keys, so that the time doesn't depend on which one matches.
        let mut found = None;
        for key in &self.access().keys {
            let is_equal: Choice = key.sha256.ct_eq(&sent);
            if bool::from(is_equal) {
                found = Some(key);
            }
        }
        found
    }

    /// Whether the host is loopback, an address of this server or an allowed name.
    fn is_own_host(&self, authority: &str) -> bool {
        // Rejects what a URL parser would read as something else than a host, or silently remove.
        if !authority.bytes().all(|byte| byte.is_ascii_graphic() && !br"/?#@\".contains(&byte)) {
            return false;
        }
        let Ok(url) = Url::parse(&format!("http://{authority}/")) else { return false };
        let Some(host) = url.host() else { return false };
        let is_own_address = match host {
            Host::Ipv4(address) => self.own_addresses.contains(&IpAddr::V4(address)),
            Host::Ipv6(address) => self.own_addresses.contains(&IpAddr::V6(address)),
            Host::Domain(_) => false,
        };
        is_own_address
            || is_local(&host)
            || self.access().allowed_hosts.iter().any(|allowed| *allowed == host.to_string())
    }

    /// Accepts the origin of the page served here, and allowed origins.
    fn check_origin(&self, headers: &HeaderMap, authority: &str) -> Result<(), ProxyError> {
        let Some(origin) = headers.get(ORIGIN).map(origin_text) else { return Ok(()) };
        let is_own = origin.strip_prefix("http://").is_some_and(|host| host == authority.to_ascii_lowercase())
            && self.is_own_host(authority);
        if is_own || self.allowed_origin(headers).is_some() {
            return Ok(());
        }
        Err(ProxyError::ForeignOrigin { origin: excerpt(&origin, NAME_CHARACTERS).to_owned() })
    }

    /// Refuses requests that a page of another site makes a browser send without an `Origin`: images, frames, links. A
    /// page on another port of this machine counts as another site. Not checked: methods other than GET, HEAD and
    /// CONNECT, with which browsers send an `Origin`, unless they send a form, which needs no preflight; and requests
    /// with a key header, which a page can't set without a preflight. Desktop apps that remove `Origin` still send
    /// `Sec-Fetch-Site`.
    fn check_site(&self, request: &Parts, key: Option<&ClientKey>) -> Result<(), ProxyError> {
        let has_origin = !matches!(request.method, Method::GET | Method::HEAD | Method::CONNECT);
        let needs_no_preflight = multipart::is_multipart(&request.headers) || is_cancellation(request);
        if key.is_some() || (has_origin && !needs_no_preflight) {
            return Ok(());
        }
        let site = request.headers.get(SEC_FETCH_SITE);
        let is_foreign = site.is_some_and(|site| site == "cross-site" || site == "same-site");
        if is_foreign && self.allowed_origin(&request.headers).is_none() && !is_harmless(request) {
            return Err(ProxyError::CrossSite);
        }
        Ok(())
    }
}

/// Refuses a request that repeats a header that the access rules depend on: a reverse proxy may have used the other
/// one.
fn check_repeated(headers: &HeaderMap) -> Result<(), ProxyError> {
    match [HOST, ORIGIN, CONTENT_TYPE].iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(Refusal::body(format!("the request has more than one '{name}' header; send it once"))),
        None => Ok(()),
    }
}

/// Whether any site may make a browser send this request: to check whether the server runs, or to open the page in a
/// tab.
fn is_harmless(request: &Parts) -> bool {
    let is = |name: HeaderName, value: &str| request.headers.get(name).is_some_and(|sent| sent == value);
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    let opens_tab = || is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document");
    is_read && (request.uri.path() == HEALTH || (request.uri.path() == PAGE && opens_tab()))
}

fn origin_text(origin: &HeaderValue) -> String {
    String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase()
}

/// Whether this is a CORS preflight.
fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The requested host: of an absolute request line, else of the `Host` header.
pub(super) fn authority(request: &Parts) -> &str {
    let header = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    request.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default()
}

/// The text of the key in `Authorization: Bearer`, `x-api-key`, `api-key` or `x-goog-api-key`; not in the first if it
/// has the client's own login.
fn presented_key(headers: &HeaderMap, credentials: CredentialSource) -> Option<&str> {
    let bearer = |text: &'_ str| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let from_authorization = authorization.filter(|text| bearer(text)).and_then(|text| text.get(7..)).map(str::trim);
    let other = || ["x-api-key", "api-key", "x-goog-api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    from_authorization.filter(|_| credentials == CredentialSource::Store).or_else(other)
}

/// The password of HTTP Basic authentication; the user name is ignored.
fn password(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()))?.ok()?;
    String::from_utf8(decoded).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn is_health_check(path: &str) -> bool {
    matches!(path, HEALTH | "/ready")
}

/// Whether this cancels a response or a batch without a body: some SDKs send no content type then.
fn is_cancellation(request: &Parts) -> bool {
    let canonical = request.extensions.get::<CanonicalPath>();
    let is_cancel = |path: &str| {
        let below = ["/v1/responses/", "/v1/batches/"].iter().find_map(|root| path.strip_prefix(root));
        below.is_some_and(|rest| rest.ends_with("/cancel"))
    };
    request.method == Method::POST
        && !request.headers.contains_key(CONTENT_TYPE)
        && canonical.is_some_and(|canonical| is_cancel(&canonical.path))
}

/// Whether the body is declared as JSON. A page can send plain text, a form or a multipart body without a preflight.
fn has_json_body(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
