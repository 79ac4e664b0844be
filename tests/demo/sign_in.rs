//! Sign-in with the simulated service, and its tokens.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use codex_proxy::clock::SystemClock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Client, Reply};

#[tokio::test]
async fn a_refresh_token_works_once_and_the_new_access_token_works() {
    let mut client = Client::start().await;
    let spent = client.login.refresh_token.clone();
    let issued = client.refresh(spent.expose()).await.json();
    client.login.access_token = codex_proxy::secret::Secret::new(issued["access_token"].as_str().unwrap());
    assert_eq!(client.get("/backend-api/wham/usage").await.status, 200);
    let again = client.refresh(spent.expose()).await;
    assert_eq!((again.status, &again.json()["error"]["code"]), (401, &json!("refresh_token_reused")));
}

#[tokio::test]
async fn a_browser_login_completes() {
    let client = Client::start().await;
    let verifier = "v".repeat(86);
    let redirect = "http://localhost:1455/auth/callback";
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
    let query = [
        ("response_type", "code"),
        ("client_id", "app"),
        ("redirect_uri", redirect),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("state", "st&te"),
    ];
    let address = url::Url::parse_with_params(&format!("{}/oauth/authorize", client.demo.issuer_url()), query).unwrap();
    let page = Reply::read(client.http.get(address).send().await.unwrap()).await;
    let target = url::Url::parse(page.headers["location"].to_str().unwrap()).unwrap();
    let members: HashMap<String, String> = target.query_pairs().into_owned().collect();
    assert_eq!((page.status, members["state"].as_str()), (302, "st&te"));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "authorization_code"), ("client_id", "app"), ("code", &members["code"])])
        .extend_pairs([("redirect_uri", redirect), ("code_verifier", &verifier)])
        .finish();
    let issued = client.post("/oauth/token", "application/x-www-form-urlencoded", form).await;
    assert_eq!(issued.status, 200);
    let claims = issued.json()["id_token"].as_str().unwrap().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert!(claims["email"].as_str().unwrap().ends_with(".invalid"));
    assert_eq!(claims["https://api.openai.com/auth"]["chatgpt_account_id"], client.login.account_id);
}

#[tokio::test]
async fn the_browser_is_redirected_only_to_this_machine() {
    let client = Client::start().await;
    let query = "response_type=code&client_id=a&code_challenge=c&code_challenge_method=S256&state=s&redirect_uri=";
    for redirect in ["https%3A%2F%2Fevil.invalid%2F", "http%3A%2F%2Flocalhost.evil.invalid%2F", "javascript%3Ax"] {
        let reply = client.get(&format!("/oauth/authorize?{query}{redirect}")).await;
        assert_eq!(reply.status, 400, "{redirect}");
    }
}

#[tokio::test]
async fn the_first_token_is_about_to_expire() {
    let client = Client::start().await;
    let claims = client.login.access_token.expose().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    let now = codex_proxy::clock::Clock::now(&SystemClock).duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = claims["exp"].as_u64().unwrap() - now;
    assert!((1..300).contains(&left), "{left} s");
}

#[tokio::test]
async fn a_device_signs_in_after_its_code_is_entered() {
    let client = Client::start().await;
    let kind = "application/json";
    let device = client.post("/api/accounts/deviceauth/usercode", kind, json!({"client_id": "app"}).to_string()).await;
    let device = device.json();
    let requested = json!({"device_auth_id": device["device_auth_id"], "user_code": device["user_code"]}).to_string();
    let poll = async || client.post("/api/accounts/deviceauth/token", kind, requested.clone()).await;
    let pending = poll().await;
    assert_eq!((pending.status, &pending.json()["error"]["code"]), (403, &json!("deviceauth_authorization_unknown")));
    let type_in = async |code: &str| {
        client.post("/codex/device", "application/x-www-form-urlencoded", format!("user_code={code}")).await.status
    };
    assert_eq!(type_in("WRONG").await, 404);
    assert_eq!(type_in(device["user_code"].as_str().unwrap()).await, 200);
    let granted = poll().await.json();
    let form = format!(
        "grant_type=authorization_code&client_id=app&code={}&redirect_uri={}/deviceauth/callback&code_verifier={}",
        granted["authorization_code"].as_str().unwrap(),
        client.demo.issuer_url(),
        granted["code_verifier"].as_str().unwrap()
    );
    let exchanged = client.post("/oauth/token", "application/x-www-form-urlencoded", form).await;
    assert_eq!(exchanged.status, 200, "{}", exchanged.body);
    assert_eq!(poll().await.status, 403);
}

#[tokio::test]
async fn the_backend_requires_a_token_and_its_account() {
    let client = Client::start().await;
    let url = format!("{}/models?client_version=0.171.0", client.demo.backend_url());
    let token = client.login.access_token.expose();
    let ask = |token: Option<&str>, account: &str| {
        let request = client.http.get(&url).header("chatgpt-account-id", account);
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    };
    for (token, account, status) in [
        (Some(token), client.login.account_id.as_str(), 200),
        (Some(token), "acct-other", 401),
        (Some("invented"), &client.login.account_id, 401),
        (None, &client.login.account_id, 401),
    ] {
        let reply = Reply::read(ask(token, account).send().await.unwrap()).await;
        assert_eq!(reply.status, status, "{account}");
        assert!(reply.json().is_object());
    }
}
