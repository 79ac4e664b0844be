//! The issuer's two endpoints for device codes: one returns a code to show, the other whether it was used.
//!
//! They differ from RFC 8628, although some of its error codes occur. The statuses 403 and 404 mean that the code
//! hasn't been used yet, unless the error code says otherwise.

use std::time::Duration;

use serde_json::{Value, json};

use super::response::IssuerResponse;
use super::{Call, CallBody, ClientHeaders, Issuer, IssuerError};
use crate::secret::Secret;

/// The interval between polls if the issuer names none.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const MAX_INTERVAL: Duration = Duration::from_secs(60);

/// A code that the user enters on the issuer's page.
#[derive(Clone, Debug)]
pub(in crate::auth) struct DeviceCode {
    pub(in crate::auth) user_code: Secret,
    pub(in crate::auth) interval: Duration,
    id: Secret,
}

/// The result of a poll.
#[derive(Debug)]
pub(in crate::auth) enum DevicePoll {
    /// The code hasn't been used yet.
    Pending,
    /// The code hasn't been used yet, and the polls are too frequent.
    SlowDown,
    /// The code was used; contains what can be exchanged for tokens.
    Done { code: Secret, verifier: Secret },
    /// The user denied the sign-in.
    Denied,
    /// The code has expired.
    Expired,
}

impl Issuer {
    /// Requests a new code. Returns `None` if device codes aren't enabled.
    pub(in crate::auth) async fn device_code(&self) -> Result<Option<DeviceCode>, IssuerError> {
        let body = CallBody::Json(json!({"client_id": self.client_id}));
        let path = "/api/accounts/deviceauth/usercode";
        let response = self.call(Call { path, body, client_headers: ClientHeaders::Omit }, self.timeout).await?;
        match response.status {
            200 => response.device_code().map(Some),
            404 => Ok(None),
            _ => Err(response.failure()),
        }
    }

    /// Checks whether the code was used.
    pub(in crate::auth) async fn poll(&self, code: &DeviceCode) -> Result<DevicePoll, IssuerError> {
        let body = CallBody::Json(json!({"device_auth_id": code.id.expose(), "user_code": code.user_code.expose()}));
        let path = "/api/accounts/deviceauth/token";
        self.call(Call { path, body, client_headers: ClientHeaders::Omit }, self.timeout).await?.poll()
    }

    /// Returns the URL of the page on which the user enters the code.
    pub(in crate::auth) fn device_page(&self) -> String {
        self.url.join("/codex/device").into()
    }

    /// Returns the redirect URI to send when the authorization code is exchanged.
    pub(in crate::auth) fn device_redirect_uri(&self) -> String {
        self.url.join("/deviceauth/callback").into()
    }
}

impl IssuerResponse {
    fn device_code(&self) -> Result<DeviceCode, IssuerError> {
        let body: Value = serde_json::from_slice(&self.body).map_err(|_| IssuerError::unreadable())?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(Secret::new);
        let user_code = text(&body["user_code"]).or_else(|| text(&body["usercode"]));
        let (Some(id), Some(user_code)) = (text(&body["device_auth_id"]), user_code) else {
            return Err(IssuerError::unreadable());
        };
        Ok(DeviceCode { user_code, interval: interval(&body["interval"]), id })
    }

    fn poll(&self) -> Result<DevicePoll, IssuerError> {
        if self.status == 200 {
            return self.device_grant();
        }
        let code = self.code();
        match (self.status, code.as_deref()) {
            (400..500, Some("slow_down")) => Ok(DevicePoll::SlowDown),
            (400..500, Some("expired_token" | "deviceauth_expired")) => Ok(DevicePoll::Expired),
            (400..500, Some("access_denied")) => Ok(DevicePoll::Denied),
            (400..500, Some("authorization_pending" | "deviceauth_authorization_pending")) | (403 | 404, _) => {
                Ok(DevicePoll::Pending)
            }
            (429, _) => Ok(DevicePoll::SlowDown),
            _ => Err(self.failure()),
        }
    }

    fn device_grant(&self) -> Result<DevicePoll, IssuerError> {
        let body: Value = serde_json::from_slice(&self.body).map_err(|_| IssuerError::unreadable())?;
        let member = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(Secret::new);
        match (member("authorization_code"), member("code_verifier")) {
            (Some(code), Some(verifier)) => Ok(DevicePoll::Done { code, verifier }),
            _ => Err(IssuerError::unreadable()),
        }
    }
}

/// Parses the interval in seconds, which the issuer sends as a string.
fn interval(value: &Value) -> Duration {
    let seconds = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok()).unwrap_or_default();
    if seconds == 0 { DEFAULT_INTERVAL } else { Duration::from_secs(seconds).min(MAX_INTERVAL) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;
    use serde_json::json;

    use super::{DevicePoll, IssuerResponse, interval};

    fn poll(status: u16, body: &str) -> String {
        match (IssuerResponse { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }).poll() {
            Ok(DevicePoll::Done { .. }) => "done".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "failed".to_owned(),
        }
    }

    #[test]
    fn the_interval_is_a_string_or_a_number_and_never_zero() {
        let cases = [(json!("7"), 7), (json!(3), 3), (json!("0"), 5), (json!(0), 5), (json!(null), 5), (json!("x"), 5)];
        for (value, seconds) in cases {
            assert_eq!(interval(&value), Duration::from_secs(seconds), "{value}");
        }
        assert_eq!(interval(&json!("86400")), Duration::from_secs(60));
    }

    #[test]
    fn every_status_and_code_of_a_poll_is_distinguished() {
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
