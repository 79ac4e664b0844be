//! The issuer's two device endpoints: a code to show, and whether somebody has used it.
//!
//! They are not those of RFC 8628, though some of its codes occur. The status speaks first: 403 and
//! 404 mean that nobody has been there yet, unless the code says that nobody ever will be.

use std::time::Duration;

use serde_json::{Value, json};

use super::answer::Answer;
use super::{Authority, AuthorityError, Call, Content, Introduction};
use crate::secret::Secret;

/// The pause between two polls where the issuer names none.
const USUAL_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// A code that a person has to type on the issuer's page.
#[derive(Clone, Debug)]
pub(in crate::auth) struct DeviceCode {
    pub(in crate::auth) user_code: Secret,
    pub(in crate::auth) interval: Duration,
    id: Secret,
}

/// What a poll found.
#[derive(Debug)]
pub(in crate::auth) enum Poll {
    /// Nobody has used the code yet.
    Pending,
    /// The same, and we ask too often.
    SlowDown,
    /// Somebody has: what the tokens are exchanged for.
    Done { code: Secret, verifier: Secret },
    /// Somebody said no.
    Denied,
    /// The code's time is over.
    Expired,
}

impl Authority {
    /// A new code; `None`: this issuer does not let anybody in by one.
    pub(in crate::auth) async fn device_code(&self) -> Result<Option<DeviceCode>, AuthorityError> {
        let content = Content::Json(json!({"client_id": self.client_id}));
        let path = "/api/accounts/deviceauth/usercode";
        let answer = self.call(Call { path, content, introduction: Introduction::Anonymous }, self.timeout).await?;
        match answer.status {
            200 => answer.device_code().map(Some),
            404 => Ok(None),
            _ => Err(answer.failure()),
        }
    }

    /// Whether somebody has used the code.
    pub(in crate::auth) async fn poll(&self, code: &DeviceCode) -> Result<Poll, AuthorityError> {
        let content = Content::Json(json!({"device_auth_id": code.id.expose(), "user_code": code.user_code.expose()}));
        let path = "/api/accounts/deviceauth/token";
        self.call(Call { path, content, introduction: Introduction::Anonymous }, self.timeout).await?.poll()
    }

    /// The page on which the code is typed.
    pub(in crate::auth) fn device_page(&self) -> String {
        self.url.join("/codex/device").into()
    }

    /// The redirect address that the exchange of a device login names.
    pub(in crate::auth) fn device_redirect_uri(&self) -> String {
        self.url.join("/deviceauth/callback").into()
    }
}

impl Answer {
    fn device_code(&self) -> Result<DeviceCode, AuthorityError> {
        let body: Value = serde_json::from_slice(&self.body).map_err(|_| AuthorityError::unreadable())?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(Secret::new);
        let user_code = text(&body["user_code"]).or_else(|| text(&body["usercode"]));
        let (Some(id), Some(user_code)) = (text(&body["device_auth_id"]), user_code) else {
            return Err(AuthorityError::unreadable());
        };
        Ok(DeviceCode { user_code, interval: interval(&body["interval"]), id })
    }

    fn poll(&self) -> Result<Poll, AuthorityError> {
        if self.status == 200 {
            return self.device_grant();
        }
        let code = self.code();
        match (self.status, code.as_deref()) {
            (400..500, Some("slow_down")) => Ok(Poll::SlowDown),
            (400..500, Some("expired_token" | "deviceauth_expired")) => Ok(Poll::Expired),
            (400..500, Some("access_denied")) => Ok(Poll::Denied),
            (400..500, Some("authorization_pending" | "deviceauth_authorization_pending")) | (403 | 404, _) => {
                Ok(Poll::Pending)
            }
            (429, _) => Ok(Poll::SlowDown),
            _ => Err(self.failure()),
        }
    }

    fn device_grant(&self) -> Result<Poll, AuthorityError> {
        let body: Value = serde_json::from_slice(&self.body).map_err(|_| AuthorityError::unreadable())?;
        let member = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(Secret::new);
        match (member("authorization_code"), member("code_verifier")) {
            (Some(code), Some(verifier)) => Ok(Poll::Done { code, verifier }),
            _ => Err(AuthorityError::unreadable()),
        }
    }
}

/// The interval, which the issuer writes as a text of digits.
fn interval(value: &Value) -> Duration {
    let seconds = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or_default();
    if seconds == 0 { USUAL_INTERVAL } else { Duration::from_secs(seconds).min(LONGEST_INTERVAL) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use serde_json::json;

    use super::{Answer, Poll, interval};

    fn poll(status: u16, body: &str) -> String {
        match (Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }).poll() {
            Ok(Poll::Done { .. }) => "done".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "failed".to_owned(),
        }
    }

    #[test]
    fn the_interval_is_a_text_of_digits_and_never_nothing() {
        let cases = [(json!("7"), 7), (json!(3), 3), (json!("0"), 5), (json!(0), 5), (json!(null), 5), (json!("x"), 5)];
        for (value, seconds) in cases {
            assert_eq!(interval(&value), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(interval(&json!("86400")), Duration::from_secs(60));
    }

    #[test]
    fn every_status_and_code_of_a_poll_is_told_apart() {
        let nested = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        let flat = |code: &str| format!(r#"{{"error":"{code}"}}"#);
        let cases = [
            (200, r#"{"authorization_code":"a","code_challenge":"c","code_verifier":"v"}"#.to_owned(), "done"),
            (200, r#"{"authorization_code":"a"}"#.to_owned(), "failed"),
            (403, nested("deviceauth_authorization_unknown"), "Pending"),
            (404, String::new(), "Pending"),
            (403, "<html>".to_owned(), "Pending"),
            (400, flat("authorization_pending"), "Pending"),
            (400, nested("deviceauth_authorization_pending"), "Pending"),
            (400, flat("slow_down"), "SlowDown"),
            (403, nested("slow_down"), "SlowDown"),
            (429, String::new(), "SlowDown"),
            (400, flat("expired_token"), "Expired"),
            (403, nested("deviceauth_expired"), "Expired"),
            (403, nested("access_denied"), "Denied"),
            (401, String::new(), "failed"),
            (400, String::new(), "failed"),
            (500, flat("authorization_pending"), "failed"),
            (302, String::new(), "failed"),
        ];
        for (status, body, want) in cases {
            assert_eq!(poll(status, &body), want, "{status} {body}");
        }
    }
}
