//! Two accounts in one store, and the account that a request uses.

use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use serde_json::json;

use crate::fake::{FakeUpstream, Gate, Script};
use crate::wire::Ask;
use crate::{SECOND, WHOLE, chat, signed_out, with};

const USAGE: &str = "/backend-api/wham/usage";
const KEYS: &str = "[[keys]]\nname = 'batch'\nkey = 'sk-batch'\nwindow_percent = 50\n\
                    [[keys]]\nname = 'desk'\nkey = 'sk-desk'\n";

/// A store with two accounts, one of them active.
fn two_accounts(active: &str) -> String {
    let mut document = Document::empty();
    for id in ["acct-1", "acct-2"] {
        let tokens = (Secret::new(format!("at_{id}")), Secret::new(format!("rt_{id}")));
        let now = SystemClock.now();
        let credential = Credential::from_tokens(Some(id.to_owned()), None, tokens.0, Some(tokens.1), Some(now));
        document.put(&credential.unwrap());
    }
    document.set_active(active);
    document.to_text()
}

fn by(key: &str, model: &str) -> Ask {
    Ask::chat(&with(chat(), "model", json!(model))).header("authorization", &format!("Bearer {key}"))
}

#[tokio::test]
async fn a_request_keeps_its_account_when_another_one_becomes_active() {
    let upstream = FakeUpstream::start().await;
    upstream.on("/responses", Script::events(&WHOLE));
    let gate = Gate::default();
    let quota = json!({"plan_type": "plus", "rate_limit": {
        "primary_window": {"used_percent": 1, "limit_window_seconds": 18_000, "reset_after_seconds": 9000}}});
    upstream.on(USAGE, Script::stream(&[]).gate(&gate).chunk(quota.to_string()).end());
    let launch = signed_out(&upstream).file("config.toml", KEYS).file("credentials.json", &two_accounts("acct-1"));
    let proxy = launch.start();
    // The quota check of the first request blocks it while the account is switched.
    let held = by("sk-batch", "gpt-5.5").fire(&proxy).await;
    assert_eq!(upstream.received(USAGE, 1).await[0].header("chatgpt-account-id"), "acct-1");
    let launch = launch.file("credentials.json", &two_accounts("acct-2"));
    let switched = async {
        loop {
            assert_eq!(by("sk-desk", "gpt-5.4").send(&proxy).await.status, 200);
            if upstream.requests("/responses").last().unwrap().header("chatgpt-account-id") == "acct-2" {
                return;
            }
        }
    };
    tokio::time::timeout(10 * SECOND, switched).await.expect("the daemon reads the store again");
    gate.open();
    assert_eq!(held.open().await.status, 200);
    let sent = upstream.requests("/responses").into_iter().find(|sent| sent.json()["model"] == "gpt-5.5").unwrap();
    assert_eq!((sent.header("chatgpt-account-id"), sent.header("authorization")), ("acct-1", "Bearer at_acct-1"));
    drop(launch);
}
