//! Browser login, with plain HTTP requests instead of a browser.

use std::collections::HashMap;
use std::time::Duration;

use codex_proxy::auth::{Credential, Login, LoginError, PasteError, PasteParser, PastedReply, Ports};
use codex_proxy::token_source::TokenSource;
use reqwest::{Client, Response, redirect};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use crate::Home;
use crate::fake_issuer::{Scripted, run};

/// A login in progress, and the query of its authorization URL.
struct Waiting {
    port: u16,
    query: Vec<(String, String)>,
    reader: PasteParser,
    paste: mpsc::Sender<PastedReply>,
    outcome: JoinHandle<Result<Credential, LoginError>>,
}

async fn start(home: &Home, ports: Ports) -> Result<Login, LoginError> {
    Login::start(&home.issuer.settings(), home.issuer.authority(), home.store(), home.clock(), ports).await
}

async fn waiting(home: &Home) -> Waiting {
    let login = start(home, Ports::only(0)).await.unwrap();
    let url = Url::parse(login.url()).unwrap();
    assert!(login.url().starts_with(&format!("{}/oauth/authorize?", home.issuer.address)));
    let query = url.query_pairs().into_owned().collect();
    let (port, reader) = (login.port(), login.paste_parser());
    let (paste, pasted) = mpsc::channel(1);
    Waiting { port, query, reader, paste, outcome: run(login.wait(pasted)) }
}

impl Waiting {
    fn value(&self, name: &str) -> &str {
        &self.query.iter().find(|(key, _)| key == name).unwrap().1
    }

    async fn get(&self, path: &str) -> Response {
        browser().get(format!("http://127.0.0.1:{}{path}", self.port)).send().await.unwrap()
    }

    async fn come_back(&self, query: &str) -> Response {
        self.get(&format!("/auth/callback?state={}&{query}", self.value("state"))).await
    }
}

fn browser() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(Duration::from_secs(5)).build().unwrap()
}

#[tokio::test]
async fn a_login_ends_with_a_stored_account_and_a_page() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let redirected = login.come_back("code=ac_good").await;
    assert_eq!(redirected.status(), 302);
    assert_eq!(redirected.headers()["location"], "/success");
    let page = login.get("/success").await;
    assert_eq!(page.headers()["cache-control"], "no-store");
    let page = page.text().await.unwrap();
    assert!(page.contains("You are signed in") && !page.contains("e30."), "{page}");
    let credential = login.outcome.await.unwrap().unwrap();
    assert_eq!((credential.account_id.as_str(), credential.plan.as_deref()), ("acct-1", Some("plus")));
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
    assert!(home.tokens().bearer().await.is_ok());
}

#[tokio::test]
async fn the_authorization_url_and_the_token_request_are_what_the_issuer_expects() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let names: Vec<&str> = login.query.iter().map(|(name, _)| name.as_str()).collect();
    let want = "response_type client_id redirect_uri code_challenge code_challenge_method state scope \
                id_token_add_organizations codex_cli_simplified_flow originator";
    assert_eq!(names.join(" "), want);
    let redirect_uri = format!("http://localhost:{}/auth/callback", login.port);
    assert_eq!(login.value("redirect_uri"), redirect_uri);
    assert_eq!((login.value("scope"), login.value("state").len()), ("openid profile email offline_access", 43));
    login.come_back("code=ac_good").await;
    let call = home.issuer.calls().remove(0);
    assert!(!call.headers.contains_key("originator") && !call.headers.contains_key("user-agent"));
    assert_eq!(call.headers["content-type"], "application/x-www-form-urlencoded");
    let names: Vec<String> = url::form_urlencoded::parse(call.body.as_bytes()).map(|(name, _)| name.into()).collect();
    assert_eq!(names.join(" "), "grant_type client_id code redirect_uri code_verifier");
    let form: HashMap<_, _> = url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect();
    assert_eq!((form["grant_type"].as_str(), form["redirect_uri"].as_str()), ("authorization_code", &*redirect_uri));
    assert_eq!(form["code_verifier"].len(), 86);
    let digest = Sha256::digest(form["code_verifier"].as_bytes());
    let challenge = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, digest);
    assert_eq!(login.value("code_challenge"), challenge);
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_browser() {
    use tokio::io::AsyncWriteExt as _;
    let home = Home::new().await;
    let login = waiting(&home).await;
    let mut idle = Vec::new();
    for index in 0..200 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", login.port)).await.unwrap();
        // Some connections have started a request that never ends.
        if index % 2 == 0 {
            stream.write_all(b"GET /auth/callback HTTP/1.1\r\nhost: loc").await.unwrap();
        }
        idle.push(stream);
    }
    let began = tokio::time::Instant::now();
    assert_eq!(login.come_back("code=ac_good").await.status(), 302);
    assert!(login.get("/success").await.text().await.unwrap().contains("You are signed in"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(login.outcome.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_wrong_state_is_rejected_and_the_login_stays_open() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    for path in [
        "/auth/callback?state=wrong&code=ac_good",
        "/auth/callback?code=ac_good",
        "/auth/callback?state=&code=ac_good",
        "/auth/callback?state=wrong&error=access_denied",
    ] {
        let reply = login.get(path).await;
        assert_eq!((reply.status().as_u16(), reply.text().await.unwrap().as_str()), (400, "State mismatch"), "{path}");
    }
    assert_eq!(login.come_back("code=").await.status(), 400);
    assert_eq!(login.get("/success").await.status(), 404);
    assert_eq!(login.get("/favicon.ico").await.status(), 404);
    assert_eq!((home.issuer.calls().len(), login.outcome.is_finished()), (0, false));
    assert_eq!(login.come_back("code=ac_good").await.status(), 302);
}

#[tokio::test]
async fn a_reloaded_callback_does_not_use_the_code_twice() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let (first, second) = tokio::join!(login.come_back("code=ac_good"), login.come_back("code=ac_good"));
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (302, 302));
    assert_eq!(home.issuer.calls().len(), 1);
}

#[tokio::test]
async fn other_requests_to_the_callback_server_are_rejected() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let address = format!("http://127.0.0.1:{}/cancel", login.port);
    let foreign = browser().get(&address).header("host", "evil.invalid").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    let page = browser().get(&address).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(page.status(), 403);
    let posted = browser().post(&address).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), posted.headers()["allow"].to_str().unwrap()), (405, "GET"));
    assert!(!login.outcome.is_finished());
}

#[tokio::test]
async fn an_error_of_the_issuer_is_shown_and_ends_the_login() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let reply = login.come_back("error=access_denied&error_description=The+%3Cuser%3E+said+no").await;
    assert_eq!(reply.status(), 400);
    let page = reply.text().await.unwrap();
    assert!(page.contains("&lt;user&gt;") && !page.contains("<user>"), "{page}");
    assert!(matches!(login.outcome.await.unwrap(), Err(LoginError::Refused { .. })));

    let login = waiting(&home).await;
    let reply = login.come_back("error=access_denied&error_description=missing_codex_entitlement").await;
    assert!(reply.text().await.unwrap().contains("administrator"));
    assert!(matches!(login.outcome.await.unwrap(), Err(LoginError::NotEntitled)));
}

#[tokio::test]
async fn a_rejected_code_is_shown_and_ends_the_login() {
    let home = Home::new().await;
    home.issuer.script([Scripted::Answer(401, serde_json::json!({"error": {"code": "invalid_grant"}}))]);
    let login = waiting(&home).await;
    let page = login.come_back("code=ac_bad").await.text().await.unwrap();
    assert!(page.contains("did not work"), "{page}");
    assert!(matches!(login.outcome.await.unwrap(), Err(LoginError::Exchange(_))));
    assert!(!home.path().exists());
}

#[tokio::test]
async fn a_later_login_takes_over_the_port() {
    let home = Home::new().await;
    let earlier = waiting(&home).await;
    let later = start(&home, Ports::only(earlier.port)).await.unwrap();
    assert_eq!(later.port(), earlier.port);
    assert_eq!(earlier.outcome.await.unwrap().unwrap_err(), LoginError::Cancelled);
}

#[tokio::test]
async fn a_port_in_use_leads_to_the_fallback_port_or_is_reported() {
    let home = Home::new().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let first = holder.local_addr().unwrap().port();
    let timeout = Duration::from_millis(300);
    let login = start(&home, Ports { first, fallback: Some(0), timeout }).await.unwrap();
    assert_ne!(login.port(), first);
    let error = start(&home, Ports { first, fallback: None, timeout }).await.unwrap_err();
    assert!(error.to_string().contains(&first.to_string()), "{error}");
    let reported = login.conflict().unwrap().to_string();
    assert!(reported.contains(&first.to_string()), "{reported}");
    #[cfg(target_os = "linux")]
    for reported in [reported, error.to_string()] {
        assert!(reported.contains(&format!("(process {})", std::process::id())), "{reported}");
    }
}

#[tokio::test]
async fn a_pasted_url_completes_the_login_like_a_callback() {
    let home = Home::new().await;
    let login = waiting(&home).await;
    let address = |state: &str| format!("http://localhost:1455/auth/callback?code=ac_good&state={state}\n");
    assert_eq!(login.reader.read(&address("other")).unwrap_err(), PasteError::Foreign);
    let pasted = login.reader.read(&address(login.value("state"))).unwrap().unwrap();
    login.paste.send(pasted).await.unwrap();
    assert_eq!(login.outcome.await.unwrap().unwrap().account_id, "acct-1");
    assert_eq!(home.stored_refresh_token().await, home.issuer.newest_refresh_token());
}

#[tokio::test]
async fn a_pasted_code_completes_the_login_and_a_closed_prompt_does_not() {
    let home = Home::new().await;
    let mut login = waiting(&home).await;
    login.paste.send(login.reader.read("ac_good").unwrap().unwrap()).await.unwrap();
    assert!(login.outcome.await.unwrap().is_ok());

    login = waiting(&home).await;
    let (other, _) = mpsc::channel(1);
    drop(std::mem::replace(&mut login.paste, other));
    assert_eq!(login.come_back("code=ac_good").await.status(), 302);
    assert!(login.outcome.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_pasted_url_works_without_a_callback_port() {
    let home = Home::new().await;
    let settings = home.issuer.settings();
    let ports = Ports::registered();
    let login =
        Login::start_without_port(&settings, home.issuer.authority(), home.store(), home.clock(), ports).await.unwrap();
    let redirect_uri = "http://localhost:1455/auth/callback";
    assert!(Url::parse(login.url()).unwrap().query_pairs().any(|(_, value)| value == redirect_uri));
    let (paste, pasted) = mpsc::channel(1);
    paste.send(login.paste_parser().read("ac_good").unwrap().unwrap()).await.unwrap();
    login.wait(pasted).await.unwrap();
    assert!(home.issuer.calls()[0].body.contains("redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback"));
}
