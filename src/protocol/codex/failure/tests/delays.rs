//! Retry delays of failures.

use std::time::Duration;

use super::super::{from_event, from_response};
use super::headers;

#[test]
fn delays_come_from_the_header_or_else_the_message() {
    let in_message = |text: &str| from_event(&format!(r#"{{"type":"error","message":"{text}"}}"#)).retry_after;
    assert_eq!(in_message("Please try again in 11.054s."), Some(Duration::from_secs_f64(11.054)));
    assert_eq!(in_message("Try Again In 250ms"), Some(Duration::from_millis(250)));
    assert_eq!(in_message("try again in 5 seconds"), Some(Duration::from_secs(5)));
    assert_eq!(in_message("try again in a while"), None);
    assert_eq!(in_message("try again in 3 days"), None);
    let with = |pairs: &[(&'static str, &str)]| {
        from_response(429, &headers(pairs), br#"{"detail":"try again in 9s"}"#).retry_after
    };
    assert_eq!(with(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
    assert_eq!(with(&[("retry-after", "-2")]), Some(Duration::from_secs(9)));
    assert_eq!(with(&[("retry-after-ms", "2500"), ("retry-after", "2")]), Some(Duration::from_millis(2500)));
    assert_eq!(with(&[("retry-after-ms", "soon"), ("retry-after", "2")]), Some(Duration::from_secs(2)));
    let event = r#"{"type":"error","headers":{"retry-after-ms":1500},"error":{"code":"slow_down"}}"#;
    assert_eq!(from_event(event).retry_after, Some(Duration::from_millis(1500)));
    let dates = [("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), ("date", "Fri, 31 Dec 1999 23:59:49 GMT")];
    assert_eq!(with(&dates), Some(Duration::from_secs(10)));
    assert_eq!(with(&dates[..1]), Some(Duration::from_secs(9)));
}
