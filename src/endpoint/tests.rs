use super::{Endpoint, EndpointError, Trust};

fn parse(text: &str) -> Result<Endpoint, EndpointError> {
    Endpoint::parse(text, Trust::KnownHosts)
}

#[test]
fn known_hosts_and_loopback_are_accepted() {
    for good in [
        "https://chatgpt.com/backend-api/codex",
        "https://us.chatgpt.com",
        "https://auth.openai.com/",
        "http://127.0.0.1:9",
        "http://[::1]:9/x",
        "http://localhost:1",
    ] {
        assert!(parse(good).is_ok(), "{good}");
    }
}

#[test]
fn other_urls_are_refused() {
    for bad in [
        "https://chatgpt.com.evil.invalid",
        "https://evilchatgpt.com",
        "http://chatgpt.com",
        "https://user:pass@chatgpt.com",
        "https://openai.com",
        "ftp://chatgpt.com",
        "chatgpt.com",
        "http://192.168.1.2",
        "https://localhost.evil.invalid",
        "http://backend.localhost",
        "https://backend.localhost",
        "https://user:pass@:x",
        "user:pass@host",
    ] {
        let error = parse(bad).unwrap_err().to_string();
        assert!(!error.contains("pass"), "{error}");
    }
}

#[test]
fn a_trusted_host_must_still_use_https() {
    assert!(Endpoint::parse("https://relay.invalid/x", Trust::AnyHttpsHost).is_ok());
    let plain = Endpoint::parse("http://relay.invalid/x", Trust::AnyHttpsHost);
    assert_eq!(plain, Err(EndpointError::NotEncrypted("relay.invalid".to_owned())));
}

#[test]
fn an_assigned_origin_keeps_the_path() {
    let base = parse("https://chatgpt.com/backend-api/codex").unwrap();
    let moved = base.with_origin("https://us.chatgpt.com").unwrap();
    assert_eq!(moved.as_str(), "https://us.chatgpt.com/backend-api/codex");
    assert!(base.with_origin("https://elsewhere.invalid").is_err());
    assert!(base.with_origin("https://us.chatgpt.com/path").is_err());
}

#[test]
fn the_backend_cannot_direct_tokens_to_a_local_port() {
    let base = parse("https://chatgpt.com/backend-api/codex").unwrap();
    let relay = Endpoint::parse("https://relay.invalid/codex", Trust::AnyHttpsHost).unwrap();
    for origin in ["http://127.0.0.1:9", "https://localhost:9", "http://[::1]:9", "https://x.localhost"] {
        assert!(base.with_origin(origin).is_err() && relay.with_origin(origin).is_err(), "{origin}");
    }
    for origin in ["https://auth.openai.com", "https://elsewhere.invalid", "http://us.chatgpt.com"] {
        assert!(base.with_origin(origin).is_err() && relay.with_origin(origin).is_err(), "{origin}");
    }
    assert_eq!(relay.with_origin("https://relay.invalid").unwrap(), relay);
    assert!(relay.with_origin("https://us.chatgpt.com").is_ok());
    let local = parse("http://127.0.0.1:1/codex").unwrap();
    assert_eq!(local.with_origin("http://localhost:2").unwrap().as_str(), "http://localhost:2/codex");
}
