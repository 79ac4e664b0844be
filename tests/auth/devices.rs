//! Login by device code.

use codex_proxy::auth::{Credential, DeviceLogin, LoginError};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::Home;
use crate::fake_issuer::Scripted;

async fn start(home: &Home) -> Result<DeviceLogin, LoginError> {
    DeviceLogin::start(home.issuer.authority(), home.store(), home.clock()).await
}

/// A login whose polls get these responses.
async fn polled(answers: impl IntoIterator<Item = Scripted>) -> (Home, Result<Credential, LoginError>) {
    let home = Home::new().await;
    let login = start(&home).await.unwrap();
    home.issuer.script(answers);
    let outcome = login.wait().await;
    (home, outcome)
}

fn used() -> Scripted {
    let body = json!({"authorization_code": "ac_good", "code_challenge": "c", "code_verifier": "cv_dev"});
    Scripted::Answer(200, body)
}

fn code(status: u16, code: &str) -> Scripted {
    Scripted::Answer(status, json!({"error": {"code": code, "message": "m"}}))
}

#[tokio::test]
async fn the_requests_are_those_that_the_issuer_expects() {
    let (home, outcome) = polled([code(403, "deviceauth_authorization_unknown"), used()]).await;
    assert_eq!(outcome.unwrap().account_id, "acct-1");
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
    let calls = home.issuer.calls();
    let paths: Vec<_> = calls.iter().map(|call| call.path.as_str()).collect();
    let (user_code, poll) = ("/api/accounts/deviceauth/usercode", "/api/accounts/deviceauth/token");
    assert_eq!(paths, [user_code, poll, poll, "/oauth/token"]);
    assert!(calls.iter().all(|call| !call.headers.contains_key("originator")));
    assert!(calls.iter().all(|call| !call.headers.contains_key("user-agent")));
    let body = |index: usize| serde_json::from_str::<Value>(&calls[index].body).unwrap();
    assert_eq!(body(0), json!({"client_id": "app_test"}));
    assert_eq!(body(1), json!({"device_auth_id": "deviceauth_1", "user_code": "ABCD-12345"}));
    let form: Vec<(String, String)> = url::form_urlencoded::parse(calls[3].body.as_bytes()).into_owned().collect();
    let redirect_uri = format!("{}/deviceauth/callback", home.issuer.address);
    let want = [
        ("grant_type", "authorization_code"),
        ("client_id", "app_test"),
        ("code", "ac_good"),
        ("redirect_uri", &redirect_uri),
        ("code_verifier", "cv_dev"),
    ];
    assert_eq!(form, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn the_first_poll_is_immediate_and_the_next_after_the_interval() {
    let started = Instant::now();
    let (_, outcome) = polled([used()]).await;
    assert!(outcome.is_ok() && started.elapsed().as_millis() < 900);
    let started = Instant::now();
    let (_, outcome) = polled([code(404, ""), used()]).await;
    assert!(outcome.is_ok() && started.elapsed().as_millis() >= 1000);
}

#[tokio::test]
async fn the_user_sees_the_url_and_the_code() {
    let home = Home::new().await;
    let login = start(&home).await.unwrap();
    assert_eq!(login.url(), format!("{}/codex/device", home.issuer.address));
    assert_eq!(login.user_code(), "ABCD-12345");
    assert!(!format!("{login:?}").contains("ABCD-12345"));
}

#[tokio::test]
async fn each_outcome_of_polling_has_its_own_message() {
    for (answer, word) in [
        (code(403, "access_denied"), "denied"),
        (code(400, "expired_token"), "15 minutes"),
        (code(404, "deviceauth_expired"), "15 minutes"),
        (code(401, "invalid_client"), "invalid_client"),
        (Scripted::Answer(400, json!({"error": "invalid_grant"})), "invalid_grant"),
    ] {
        let (home, outcome) = polled([answer]).await;
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(!home.path().exists());
    }
}

#[tokio::test]
async fn a_transient_error_does_not_end_polling() {
    let (_, outcome) = polled([Scripted::Answer(502, json!({})), Scripted::Answer(503, json!({})), used()]).await;
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn an_issuer_without_device_codes_is_reported() {
    let home = Home::new().await;
    home.issuer.script([Scripted::Answer(404, json!({}))]);
    let error = start(&home).await.unwrap_err();
    assert_eq!(error, LoginError::DeviceNotEnabled);
    assert!(error.to_string().contains("security settings"), "{error}");
    home.issuer.script([Scripted::Answer(200, json!({"user_code": "A"}))]);
    assert!(matches!(start(&home).await.unwrap_err(), LoginError::NoDeviceCode(_)));
}

#[tokio::test]
async fn no_device_login_starts_if_its_result_cannot_be_stored() {
    let home = Home::new().await;
    std::fs::create_dir_all(home.path().parent().unwrap()).unwrap();
    std::fs::write(home.path(), "garbage").unwrap();
    assert!(matches!(start(&home).await.unwrap_err(), LoginError::Store(_)));
    assert!(home.issuer.calls().is_empty());
}
