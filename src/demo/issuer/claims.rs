//! The simulated user, and tokens with the claims of real ones.
//!
//! The tokens are JWTs without a valid signature: only the simulated backend accepts them, because it finds them in the
//! table of issued tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Id of the simulated account.
pub(in crate::demo) const ACCOUNT_ID: &str = "acct-demo";
/// Id of the simulated user.
pub(in crate::demo) const USER_ID: &str = "user-demo";
/// The user's address, in a reserved domain.
pub(in crate::demo) const EMAIL: &str = "demo@codex-proxy.invalid";
/// The account's plan.
pub(in crate::demo) const PLAN: &str = "pro";

/// When tokens are valid, in Unix seconds, and the number that makes them unique.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) serial: u64,
}

pub(super) fn access_token(issuer: &str, span: Span) -> String {
    let mut claims = common(issuer, span);
    claims["aud"] = json!(["https://api.openai.com/v1"]);
    claims["scp"] = json!(["openid", "profile", "email", "offline_access"]);
    claims["https://api.openai.com/profile"] = json!({ "email": EMAIL, "email_verified": true });
    encode(&claims)
}

pub(super) fn id_token(issuer: &str, client_id: &str, span: Span) -> String {
    let mut claims = common(issuer, span);
    claims["aud"] = json!([client_id]);
    claims["email"] = json!(EMAIL);
    claims["email_verified"] = json!(true);
    claims["name"] = json!("Demo");
    encode(&claims)
}

fn common(issuer: &str, span: Span) -> Value {
    json!({
        "iss": issuer,
        "sub": USER_ID,
        "iat": span.from,
        "nbf": span.from,
        "exp": span.until,
        "jti": format!("demo-{}", span.serial),
        "https://api.openai.com/auth": {
            "chatgpt_account_id": ACCOUNT_ID,
            "chatgpt_user_id": USER_ID,
            "chatgpt_account_user_id": format!("{USER_ID}__{ACCOUNT_ID}"),
            "chatgpt_plan_type": PLAN,
            "chatgpt_account_is_fedramp": false,
        },
    })
}

fn encode(claims: &Value) -> String {
    let header = json!({ "alg": "none", "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(&header), part(claims), URL_SAFE_NO_PAD.encode("not signed"))
}
