//! Which hosts, origins, keys and users are accepted: by example and at random.

use http::Request;
use proptest::prelude::*;

use super::*;
use crate::socket_owner::Peers;

fn policy(keys: &[&str], hosts: &[&str], origins: &[&str]) -> AccessPolicy {
    let access = AccessSettings {
        keys: keys.iter().map(|key| ClientKey::from_text("k", key)).collect(),
        allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allowed_origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        allow_other_users: false,
    };
    let live = Arc::new(LiveSettings { access, rules: Arc::default() });
    let own_addresses = Arc::new(["192.168.7.7".parse().unwrap()]);
    // A connection that doesn't exist.
    let peer = Peers::default().peer("127.0.0.1:1".parse().unwrap(), None);
    AccessPolicy {
        live,
        own_addresses,
        source: ConnectionSource::Tcp(peer),
        backend: Backend::ChatGpt,
        credentials: CredentialSource::Store,
        refusals: Arc::default(),
    }
}

fn request(headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::post("/v1/chat/completions").header("content-type", "application/json");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

#[test]
fn loopback_and_own_names_are_served() {
    let policy = policy(&[], &["proxy.home.arpa"], &[]);
    for host in
        ["localhost", "127.0.0.1:8787", "[::1]:9", "LOCALHOST:1", "192.168.7.7:8787", "proxy.home.arpa:80", "127.9.9.9"]
    {
        assert!(policy.admit(&request(&[("host", host)])).is_ok(), "{host}");
    }
}

#[test]
fn foreign_and_rebinding_names_are_refused() {
    let policy = policy(&[], &[], &[]);
    for host in [
        "evil.invalid",
        "localhost.evil.invalid",
        "127.0.0.1.evil.invalid",
        "",
        "a@localhost",
        "localhost/x",
        "10.0.0.1",
        "0.0.0.0",
    ] {
        let refused = policy.admit(&request(&[("host", host)]));
        assert!(matches!(refused, Err(ProxyError::ForeignHost { .. })), "{host}");
    }
}

#[test]
fn a_valid_key_allows_any_host_name() {
    let policy = policy(&["sk-1"], &[], &[]);
    assert!(policy.admit(&request(&[("host", "host.docker.internal"), ("x-api-key", "sk-1")])).is_ok());
    assert!(policy.admit(&request(&[("host", "localhost"), ("authorization", "bearer sk-1")])).is_ok());
    let wrong = policy.admit(&request(&[("host", "localhost"), ("api-key", "sk-2")]));
    assert!(matches!(wrong, Err(ProxyError::KeyRequired { .. })));
}

#[test]
fn only_the_own_page_and_allowed_origins_are_accepted() {
    let policy = policy(&[], &[], &["app://obsidian.md"]);
    let from = |origin| policy.admit(&request(&[("host", "localhost:8787"), ("origin", origin)]));
    assert!(from("http://localhost:8787").is_ok());
    assert!(from("app://obsidian.md").is_ok());
    for origin in ["http://localhost:3000", "null", "https://evil.invalid", "http://localhost:8787.evil.invalid", ""] {
        assert!(matches!(from(origin), Err(ProxyError::ForeignOrigin { .. })), "{origin}");
    }
}

#[test]
fn a_post_that_needs_no_preflight_is_refused() {
    let policy = policy(&[], &[], &[]);
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/json",
        "application/foo+json",
        "application/jsonp",
        "application/x-www-form-urlencoded,application/a+json",
        "application/json,text/plain",
        "",
    ] {
        let parts = Request::post("/v1/x")
            .header("host", "localhost")
            .header("content-type", kind)
            .body(())
            .unwrap()
            .into_parts()
            .0;
        assert!(matches!(policy.admit(&parts), Err(ProxyError::UnsupportedMediaType { .. })), "{kind}");
    }
}

/// Strings that are similar to accepted host names.
fn hosts() -> impl Strategy<Value = String> {
    let names =
        ["localhost", "127.0.0.1", "[::1]", "evil.invalid", "box.local", "192.168.7.7", "0x7f.1", "[::ffff:7f00:1]"];
    let glue = ["", "", ".", "@", ":", "/", "#", "?", "%2e", "\\", " ", "\t", "\u{ff0e}", ":80", ":99999", "-"];
    let pieces = prop_oneof![
        3 => proptest::sample::select(names.to_vec()).prop_map(str::to_owned),
        3 => proptest::sample::select(glue.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ];
    proptest::collection::vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

/// The host as a program that splits the header by hand would read it.
fn plain_host(authority: &str) -> &str {
    let end = authority.rfind(':').filter(|end| !authority.ends_with(']') && *end > 0).unwrap_or(authority.len());
    authority.get(..end).unwrap_or_default()
}

fn post(host: &str, origin: Option<&str>) -> Option<Parts> {
    let builder = Request::post("/v1/x").header("content-type", "application/json").header("host", host);
    let builder = origin.into_iter().fold(builder, |builder, origin| builder.header("origin", origin));
    builder.body(()).ok().map(|request| request.into_parts().0)
}

proptest! {
    #[test]
    fn only_names_of_this_machine_are_accepted(host in hosts()) {
        let policy = policy(&[], &["box.local"], &[]);
        let Some(request) = post(&host, None) else { return Ok(()) };
        if policy.admit(&request).is_ok() {
            // Any accepted spelling must mean this machine to a resolver or a browser.
            let name = plain_host(&host).trim().to_ascii_lowercase();
            let parsed = Host::parse(&name).ok();
            let is_good = parsed.is_some_and(|host| match &host {
                Host::Domain(name) => name == "box.local" || is_local(&Host::Domain(name)),
                Host::Ipv4(address) => address.is_loopback() || address.octets() == [192, 168, 7, 7],
                Host::Ipv6(address) => is_local(&Host::Ipv6(*address)),
            });
            prop_assert!(is_good, "{host:?}");
            prop_assert!(!host.contains(['@', '/', '#', '?', '\\']), "{host:?}");
        }
    }

    #[test]
    fn only_the_exact_origin_is_accepted(
        origin in hosts(),
        scheme in "(http|https|app|HTTP|null)(://|:|)",
        host in hosts(),
    ) {
        let policy = policy(&[], &["box.local"], &["https://chat.example.com", "app://notes"]);
        let origin = format!("{scheme}{origin}");
        let Some(request) = post(&host, Some(&origin)) else { return Ok(()) };
        if policy.admit(&request).is_ok() {
            prop_assert_eq!(origin.to_ascii_lowercase(), format!("http://{}", host.to_ascii_lowercase()));
        }
    }

    #[test]
    fn an_allowed_origin_with_additions_is_not_allowed(before in "\\PC{0,8}", after in "\\PC{0,8}") {
        let policy = policy(&[], &[], &["https://chat.example.com"]);
        let origin = format!("{before}https://chat.example.com{after}");
        let Some(request) = post("localhost", Some(&origin)) else { return Ok(()) };
        // HTTP header values have no surrounding white space.
        prop_assert_eq!(policy.admit(&request).is_ok(), origin == "https://chat.example.com");
    }
}

/// A request with HTTP Basic credentials.
fn by_browser(method: &str, path: &str, host: &str, pair: &str) -> Parts {
    let builder = Request::builder().method(method).uri(path).header("host", host);
    let builder = builder.header("content-type", "application/json");
    builder.header("authorization", format!("Basic {}", STANDARD.encode(pair))).body(()).unwrap().into_parts().0
}

#[test]
fn a_basic_auth_key_is_accepted_for_the_page_only() {
    let policy = policy(&["sk-1:2"], &[], &[]);
    let opens = |method, path, pair| policy.admit(&by_browser(method, path, "localhost", pair)).is_ok();
    assert!(opens("GET", "/", "me:sk-1:2") && opens("GET", "/?x", ":sk-1:2") && opens("HEAD", "/", ":sk-1:2"));
    for (method, path, pair) in [
        ("GET", "/", "sk-1:2"),
        ("GET", "/", "me:sk-2"),
        ("POST", "/", ":sk-1:2"),
        ("GET", "/v1/models", ":sk-1:2"),
        ("GET", "/usage", ":sk-1:2"),
        ("GET", "//", ":sk-1:2"),
        ("POST", "/v1/chat/completions", ":sk-1:2"),
        ("GET", "/v1/responses", ":sk-1:2"),
    ] {
        assert!(!opens(method, path, pair), "{method} {path} {pair}");
    }
    let elsewhere = policy.admit(&by_browser("GET", "/", "rebound.invalid", ":sk-1:2"));
    assert!(matches!(elsewhere, Err(ProxyError::ForeignHost { .. })), "the key allows no other host");
}

/// Whether the unknown user of a connection is refused under these rules.
async fn refuses_unknown_user(change: impl FnOnce(&mut AccessPolicy), path: &str) -> bool {
    let mut policy = policy(&[], &[], &[]);
    change(&mut policy);
    let request = Request::get(path).header("host", "localhost").header("x-api-key", "sk-1").body(()).unwrap();
    matches!(policy.authorize(&request.into_parts().0).await, Err(ProxyError::ForeignUser { uid: None }))
}

fn with_access(policy: &mut AccessPolicy, change: impl FnOnce(&mut AccessSettings)) {
    let mut live = LiveSettings::clone(&policy.live);
    change(&mut live.access);
    policy.live = Arc::new(live);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unknown_user_is_refused_unless_keys_or_a_setting_allow_it() {
    for path in ["/v1/models", "/usage", "/metrics", "/", "/v1/responses", "/health/", "/unknown"] {
        assert!(refuses_unknown_user(|_| {}, path).await, "{path}");
    }
    assert!(!refuses_unknown_user(|_| {}, "/health").await && !refuses_unknown_user(|_| {}, "/ready").await);
    let keys = vec![ClientKey::from_text("k", "sk-1")];
    assert!(!refuses_unknown_user(|policy| with_access(policy, |access| access.keys = keys), "/usage").await);
    assert!(
        !refuses_unknown_user(|policy| with_access(policy, |access| access.allow_other_users = true), "/usage").await
    );
    assert!(!refuses_unknown_user(|policy| policy.backend = Backend::Demo, "/usage").await);
    assert!(!refuses_unknown_user(|policy| policy.source = ConnectionSource::Unix, "/usage").await);
}

#[test]
fn a_header_that_access_depends_on_must_not_repeat() {
    let policy = policy(&["sk-1"], &[], &[]);
    for (name, value) in [("host", "localhost"), ("origin", "http://localhost"), ("content-type", "application/json")] {
        let headers = [("host", "localhost"), ("origin", "http://localhost"), ("x-api-key", "sk-1"), (name, value)];
        let refused = policy.admit(&request(&headers));
        assert!(matches!(refused, Err(ProxyError::Refused(_))), "{name}");
    }
}

#[test]
fn requests_of_other_sites_are_refused_unless_harmless() {
    let policy = policy(&["sk-1"], &[], &["https://chat.example"]);
    let admits = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let builder = Request::builder().method(method).uri(path).header("host", "localhost");
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        !matches!(policy.admit(&builder.body(()).unwrap().into_parts().0), Err(ProxyError::CrossSite))
    };
    let opened = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert!(admits("GET", "/", &opened) && admits("HEAD", "/", &opened) && admits("GET", "/health", &opened[..1]));
    assert!(!admits("CONNECT", "/", &opened) && !admits("GET", "/usage", &opened) && !admits("GET", "//", &opened));
    assert!(
        !admits("GET", "/", &opened[..2]) && admits("POST", "/v1/x", &opened[..1]),
        "browsers send an Origin with POST"
    );
    let basic = format!("Basic {}", STANDARD.encode(":sk-1"));
    for (name, value, is_admitted) in [
        ("x-api-key", "sk-1", true),
        ("authorization", "Bearer sk-1", true),
        ("x-api-key", "sk-2", false),
        ("authorization", basic.as_str(), false),
    ] {
        assert_eq!(admits("GET", "/v1/models", &[opened[0], (name, value)]), is_admitted, "{name}: {value}");
    }
    assert!(admits("GET", "/usage", &[opened[0], ("origin", "https://chat.example")]), "allowed origin");
    for site in ["none", "same-origin", "unknown"] {
        assert!(admits("GET", "/usage", &[("sec-fetch-site", site)]), "{site}");
    }
}
