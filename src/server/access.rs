//! The doors that every request passes before anything else looks at it.
//!
//! A web page must not be able to spend the subscription: a foreign `Host` (a rebinding name), a
//! foreign `Origin` or site and a POST that a page could send without asking (any content type but
//! JSON) are refused here, whether keys are set or not. Where keys are set, one is required for every
//! path but the probes; where none are, requests of other users of this machine are refused. Keys are
//! compared as hashes, in constant time. A page of an allowed origin may ask beforehand (a preflight)
//! without a key: it has none to show at that point.
//!
//! A browser shows its key by HTTP Basic, and from then on with every request to this origin, whichever
//! page made it do so: that key counts for reading our own page, for nothing else, and excuses no host.

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

use super::refusals::Refusals;
use super::{Backend, LiveSettings};
use crate::endpoint::is_local;
use crate::error::{ProxyError, Refusal};
use crate::excerpt::{NAME_CHARACTERS, excerpt};
use crate::socket_owner::{Peer, PeerUser};

/// Where our own page is.
pub(super) const PAGE: &str = "/";
const HEALTH: &str = "/health";
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A key that clients may use.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// Its name, for logs and for keeping conversations apart.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// The account that its requests use; `None`: the one that they name, or the one in use.
    pub account: Option<String>,
    /// It is refused while more than this of a quota window is used, of 100; `None`: never for that.
    pub window_percent: Option<u8>,
    /// Whether it sees what every key uses, once there is a key that does.
    pub is_admin: bool,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ClientKey {
    /// A key given as text.
    #[must_use]
    pub fn from_text(name: impl Into<String>, key: &str) -> Self {
        let sha256 = Sha256::digest(key.as_bytes()).into();
        Self { name: name.into(), sha256, account: None, window_percent: None, is_admin: false }
    }
}

/// Name of the key that a request came with, where keys are set.
#[derive(Clone, Debug)]
pub(super) struct KeyName(pub(super) String);

/// The usage that a request may see, where that is not everything: what its own key used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnUsage {
    /// Name of the client key.
    pub(super) key: String,
    /// The account that the key is bound to.
    pub(super) account: Option<String>,
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Client keys; none: no key is asked for.
    pub keys: Vec<ClientKey>,
    /// Host names to answer to, beside loopback and the addresses listened on; in lower case.
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, beside our own page; as a browser writes them.
    pub allowed_origins: Vec<String>,
    /// Whether programs of other users of this machine may call when no keys are set.
    pub allow_other_users: bool,
}

/// What a request came through.
#[derive(Clone, Debug)]
pub(super) enum ConnectionSource {
    /// A TCP port, which any program and any web page on the machine can reach.
    Tcp(Peer),
    /// A Unix socket, which no web page can reach under any name.
    #[cfg(unix)]
    Unix,
}

/// The rules in force when a request came.
#[derive(Clone, Debug)]
pub(super) struct AccessPolicy {
    pub(super) live: Arc<LiveSettings>,
    pub(super) own_addresses: Arc<[IpAddr]>,
    pub(super) source: ConnectionSource,
    pub(super) backend: Backend,
    pub(super) refusals: Arc<Refusals>,
}

/// What to do with a request that is let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<'g> {
    /// Serve it.
    Request(Option<&'g ClientKey>),
    /// Tell the page what it may send.
    Preflight,
}

impl AccessPolicy {
    /// Admits a request by what it says and by the user that sends it.
    pub(super) async fn authorize(&self, request: &Parts) -> Result<Admission<'_>, ProxyError> {
        let admission = self.admit(request)?;
        if matches!(admission, Admission::Request(_)) {
            self.check_user(request).await?;
        }
        Ok(admission)
    }

    /// Refuses a request of another user of this machine where nothing else decides who may spend the subscription.
    async fn check_user(&self, request: &Parts) -> Result<(), ProxyError> {
        let decided = self.requires_key() || self.access().allow_other_users || self.backend != Backend::ChatGpt;
        if decided || is_probe(request.uri.path()) {
            return Ok(());
        }
        let user = match &self.source {
            ConnectionSource::Tcp(peer) => peer.user().await,
            // Only its owner can open its file.
            #[cfg(unix)]
            ConnectionSource::Unix => PeerUser::Trusted,
        };
        match user {
            PeerUser::Trusted => Ok(()),
            PeerUser::Other(uid) => Err(ProxyError::ForeignUser { uid: Some(uid) }),
            PeerUser::Unknown => Err(ProxyError::ForeignUser { uid: None }),
        }
    }

    /// Admits a request by what it says.
    fn admit(&self, request: &Parts) -> Result<Admission<'_>, ProxyError> {
        check_repeated(&request.headers)?;
        let key = self.key(&request.headers);
        let authority = authority(request);
        let asks = is_preflight(request) && self.page(&request.headers).is_some();
        // Where keys are set, the request that follows has to show one, which excuses any name.
        let may_have_any_name =
            key.is_some() || !matches!(self.source, ConnectionSource::Tcp(_)) || (asks && self.requires_key());
        if !may_have_any_name && !self.is_ours(authority) {
            return Err(ProxyError::ForeignHost { host: excerpt(authority, NAME_CHARACTERS).to_owned() });
        }
        self.check_origin(&request.headers, authority)?;
        self.check_site(request, key)?;
        if asks {
            return Ok(Admission::Preflight);
        }
        let key = key.or_else(|| self.basic_auth_key(request));
        if self.requires_key() && key.is_none() && !is_probe(request.uri.path()) {
            return Err(ProxyError::KeyRequired);
        }
        if request.method == Method::POST && !has_json_body(&request.headers) {
            return Err(ProxyError::UnsupportedMediaType);
        }
        Ok(Admission::Request(key))
    }

    /// The allowed origin that a request comes from, as it was sent; `None`: it comes from no page, or from another one.
    pub(super) fn page<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        let sent = headers.get(ORIGIN)?;
        let origin = origin_text(sent);
        self.access().allowed_origins.contains(&origin).then_some(sent)
    }

    /// Whether any page is let in beside our own.
    pub(super) fn allows_origins(&self) -> bool {
        !self.access().allowed_origins.is_empty()
    }

    fn access(&self) -> &AccessSettings {
        &self.live.access
    }

    /// Whether clients have to show a key.
    pub(super) fn requires_key(&self) -> bool {
        !self.access().keys.is_empty()
    }

    /// What a key sees of the usage; `None`: all of it.
    pub(super) fn own_usage(&self, key: &ClientKey) -> Option<OwnUsage> {
        let has_admin = self.access().keys.iter().any(|key| key.is_admin);
        (has_admin && !key.is_admin).then(|| OwnUsage { key: key.name.clone(), account: key.account.clone() })
    }

    fn key(&self, headers: &HeaderMap) -> Option<&ClientKey> {
        self.find(presented_key(headers)?)
    }

    /// The key that a person gave as the password for our page.
    fn basic_auth_key(&self, request: &Parts) -> Option<&ClientKey> {
        let is_ours = request.uri.path() == PAGE && matches!(request.method, Method::GET | Method::HEAD);
        self.find(&password(&request.headers).filter(|_| is_ours)?)
    }

    fn find(&self, presented: &str) -> Option<&ClientKey> {
        let sent: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        // Every key is looked at, so that the time tells nothing about which one matched.
        let mut found = None;
        for key in &self.access().keys {
            let is_equal: Choice = key.sha256.ct_eq(&sent);
            if bool::from(is_equal) {
                found = Some(key);
            }
        }
        found
    }

    fn is_ours(&self, authority: &str) -> bool {
        // What a URL has beside its host, or takes away without a word, has no place in this header.
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

    /// Our own page names the host that it was loaded from; any other page has to be allowed.
    fn check_origin(&self, headers: &HeaderMap, authority: &str) -> Result<(), ProxyError> {
        let Some(origin) = headers.get(ORIGIN).map(origin_text) else { return Ok(()) };
        let is_own = origin.strip_prefix("http://").is_some_and(|host| host == authority.to_ascii_lowercase())
            && self.is_ours(authority);
        if is_own || self.page(headers).is_some() {
            return Ok(());
        }
        Err(ProxyError::ForeignOrigin { origin: excerpt(&origin, NAME_CHARACTERS).to_owned() })
    }

    /// Refuses what a page of another site can make a browser send without an `Origin`: images, frames, links.
    /// A page on another port of this machine counts as another site. Not checked: other methods than GET and HEAD,
    /// with which browsers send an `Origin`, and requests with a key header, which a page can't set without a
    /// preflight. Desktop apps that remove `Origin` still send `Sec-Fetch-Site`.
    fn check_site(&self, request: &Parts, key: Option<&ClientKey>) -> Result<(), ProxyError> {
        if key.is_some() || !matches!(request.method, Method::GET | Method::HEAD | Method::CONNECT) {
            return Ok(());
        }
        let site = request.headers.get(SEC_FETCH_SITE);
        let is_foreign = site.is_some_and(|site| site == "cross-site" || site == "same-site");
        if is_foreign && self.page(&request.headers).is_none() && !is_harmless(request) {
            return Err(ProxyError::CrossSite);
        }
        Ok(())
    }
}

/// Refuses a request with two of a header that decides whether it is admitted: a proxy in front may have
/// gone by the other one.
fn check_repeated(headers: &HeaderMap) -> Result<(), ProxyError> {
    match [HOST, ORIGIN, CONTENT_TYPE].iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
        Some(name) => Err(Refusal::body(format!("the request has more than one '{name}' header"))),
        None => Ok(()),
    }
}

/// Whether a page of any site may make a browser send a request: to look whether the daemon runs, or to open
/// our page in a tab.
fn is_harmless(request: &Parts) -> bool {
    let is = |name: HeaderName, value: &str| request.headers.get(name).is_some_and(|sent| sent == value);
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    let opens_tab = || is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_DEST, "document");
    is_read && (request.uri.path() == HEALTH || (request.uri.path() == PAGE && opens_tab()))
}

fn origin_text(origin: &HeaderValue) -> String {
    String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase()
}

/// Whether a browser asks what a page may send.
fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The host the request is for: of an absolute request line, else of the header.
pub(super) fn authority(request: &Parts) -> &str {
    let header = || request.headers.get(HOST).and_then(|host| host.to_str().ok());
    request.uri.authority().map(http::uri::Authority::as_str).or_else(header).unwrap_or_default()
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = |text: &'_ str| text.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "));
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let from_authorization = authorization.filter(|text| bearer(text)).and_then(|text| text.get(7..)).map(str::trim);
    let other = || ["x-api-key", "api-key"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    from_authorization.or_else(other)
}

/// The password of HTTP Basic, whoever the user is.
fn password(headers: &HeaderMap) -> Option<String> {
    let (scheme, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials.trim()))?.ok()?;
    String::from_utf8(decoded).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn is_probe(path: &str) -> bool {
    matches!(path, HEALTH | "/ready")
}

/// Whether the body is declared as JSON. A page can declare plain text, a form or a multipart body without
/// asking; the APIs take no other type than this one.
fn has_json_body(headers: &HeaderMap) -> bool {
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests;
