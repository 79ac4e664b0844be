//! Which failures are hidden by a retry, which are reported, and the limit of that: the commit point.

use std::borrow::Cow;
use std::sync::atomic::Ordering;

use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::protocol::codex::request::{Item, Request, ServiceTier};
use codex_proxy::token_source::AuthError;
use codex_proxy::upstream::ForwardedHeaders;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::fake::{Gate, Script};
use crate::{ADDED, Bench, CREATED, OVERLOADED, PROGRESS, QUOTA, SECOND, WHOLE, drain, fault, open, request};

#[tokio::test]
async fn a_rejected_token_is_replaced_and_repeated_rejections_give_retry_after() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(401, r#"{"detail":"Unauthorized"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    let sent = bench.fake.requests("/responses");
    assert_eq!([sent[0].header("authorization"), sent[1].header("authorization")], ["Bearer at_0", "Bearer at_1"]);

    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(401, r#"{"detail":"Unauthorized"}"#));
    assert!(matches!(bench.open().await, Err(ProxyError::Auth(AuthError::TokenRefused { .. }))));
    assert_eq!((bench.calls(), bench.tokens.recoveries.load(Ordering::SeqCst)), (3, 2));
    assert_eq!(*bench.tokens.refused.lock().unwrap(), ["at_2"], "the source knows that its newest token is rejected");
}

#[tokio::test]
async fn a_transient_failure_of_the_issuer_counts_as_a_retry() {
    let trouble = || AuthError::Unavailable { message: "503".to_owned(), retry_after: Some(SECOND / 100) };
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.tokens.troubles.lock().unwrap().extend([trouble(), trouble()]);
    bench.open().await.unwrap();
    bench.tokens.troubles.lock().unwrap().extend([trouble(), trouble(), trouble()]);
    assert!(matches!(bench.open().await, Err(ProxyError::Auth(AuthError::Unavailable { .. }))));

    // The remaining retries are for the backend.
    bench.fake.replace("/responses", Script::json(500, ""));
    bench.tokens.troubles.lock().unwrap().extend([trouble()]);
    let asked = bench.calls();
    assert_eq!(fault(bench.open().await), Fault::Server);
    assert_eq!(bench.calls() - asked, 2);
}

#[tokio::test]
async fn a_token_of_another_account_never_replaces_a_refused_one() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(401, r#"{"detail":"Unauthorized"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.tokens.is_switched.store(true, Ordering::SeqCst);
    assert!(matches!(bench.open().await, Err(ProxyError::Auth(AuthError::AccountChanged))));
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn server_errors_are_retried_at_most_three_times() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(502, ""));
    bench.fake.on("/responses", Script::default().reset());
    bench.fake.on("/responses", Script::events(&WHOLE));
    let (events, _) = drain(bench.open().await.unwrap()).await;
    assert_eq!(events, WHOLE);

    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(500, r#"{"error":{"message":"oops"}}"#));
    assert_eq!(fault(bench.open().await), Fault::Server);
    assert_eq!(bench.calls(), 3);
}

#[tokio::test]
async fn retry_after_is_honored_within_the_budget() {
    let again =
        |seconds| Script::answer(429, &[("retry-after", seconds)], r#"{"error":{"code":"rate_limit_exceeded"}}"#);
    let bench = Bench::new().await;
    bench.fake.on("/responses", again("1"));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let started = tokio::time::Instant::now();
    bench.open().await.unwrap();
    assert!(started.elapsed() >= SECOND);

    let bench = Bench::with(|settings| settings.retry_budget = SECOND / 2).await;
    bench.fake.on("/responses", again("1"));
    let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
    assert_eq!((failure.fault, failure.retry_after), (Fault::RateLimited, Some(SECOND)));
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_failure_inside_a_200_is_hidden_before_the_commit_point() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&[QUOTA, CREATED, PROGRESS, OVERLOADED]));
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).end());
    bench.fake.on("/responses", Script::events(&WHOLE));
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, WHOLE, "nothing of the failed attempts is left");
    assert_eq!(bench.calls(), 3);

    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&[CREATED, OVERLOADED]));
    assert_eq!(fault(bench.open().await), Fault::Overloaded);
    assert_eq!(bench.calls(), 3);
}

#[tokio::test]
async fn a_failure_inside_a_200_keeps_the_request_id_of_its_response() {
    let bench = Bench::new().await;
    let failed = r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"no"}}}"#;
    bench.fake.on("/responses", Script::stream(&[("x-request-id", "req_7")]).event(CREATED).event(failed).end());
    let Err(ProxyError::Upstream(failure)) = bench.open().await else { panic!("a failure") };
    assert_eq!((failure.fault, failure.request_id.as_deref()), (Fault::Policy, Some("req_7")));
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn a_failure_after_the_commit_point_is_an_event() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&[CREATED, ADDED, OVERLOADED]));
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [CREATED, ADDED, OVERLOADED]);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn silence_after_the_first_output_commits_and_a_prelude_does_not() {
    let bench = Bench::with(|settings| settings.commit_after = SECOND / 20).await;
    let (begin, fail) = (Gate::default(), Gate::default());
    let script = Script::stream(&[]).event(QUOTA).gate(&begin).event(CREATED).gate(&fail).event(OVERLOADED).end();
    bench.fake.on("/responses", script);
    let early = timeout(SECOND / 4, open(&bench.upstream, request(), &ForwardedHeaders::default())).await;
    assert!(early.is_err(), "a prelude does not open a response");
    assert!(bench.fake.hung_up(1, 5 * SECOND).await);
    begin.open();
    let answer = bench.open().await.unwrap();
    fail.open();
    let (events, _) = drain(answer).await;
    assert_eq!(events, [QUOTA, CREATED, OVERLOADED]);
}

#[tokio::test]
async fn a_parameter_that_a_model_rejects_is_omitted_from_its_requests() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(400, r#"{"detail":"Unsupported parameter: service_tier"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let fast = || Request { service_tier: Some(ServiceTier::Priority), ..request() };
    let forwarded = ForwardedHeaders::default();
    for _ in 0..2 {
        let answer = open(&bench.upstream, fast(), &forwarded).await.unwrap();
        assert_eq!(answer.warnings, ["ignored:service_tier"]);
    }
    let has_tier: Vec<_> =
        bench.fake.requests("/responses").iter().map(|sent| sent.json().get("service_tier").is_some()).collect();
    assert_eq!(has_tier, [true, false, false]);
    assert!(bench.open().await.unwrap().warnings.is_empty(), "a request without the member is unchanged");
    let other = Request { model: "gpt-6-sol".into(), ..fast() };
    assert!(open(&bench.upstream, other, &forwarded).await.unwrap().warnings.is_empty(), "another model keeps it");
    assert_eq!(bench.fake.requests("/responses").pop().unwrap().json()["service_tier"], "priority");
}

#[tokio::test]
async fn a_rejection_is_learned_only_if_the_request_without_the_parameter_is_accepted() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(400, r#"{"detail":"Unsupported parameter: service_tier"}"#));
    let fast = || Request { service_tier: Some(ServiceTier::Priority), ..request() };
    assert_eq!(fault(open(&bench.upstream, fast(), &ForwardedHeaders::default()).await), Fault::InvalidRequest);
    assert_eq!((bench.calls(), bench.upstream.rejected_params().len()), (2, 0));
    bench.fake.replace("/responses", Script::events(&WHOLE));
    assert!(open(&bench.upstream, fast(), &ForwardedHeaders::default()).await.unwrap().warnings.is_empty());
    assert_eq!(bench.fake.requests("/responses").pop().unwrap().json()["service_tier"], "priority");
}

#[tokio::test]
async fn a_rejection_that_cannot_be_repaired_goes_to_the_client() {
    for member in ["input", "tools", "text", "reasoning", "include", "never_sent", "reasoning.effort"] {
        let bench = Bench::new().await;
        let body = format!(r#"{{"detail":"Unsupported parameter: {member}"}}"#);
        bench.fake.on("/responses", Script::json(400, &body));
        assert_eq!(fault(bench.open().await), Fault::InvalidRequest, "{member}");
        assert_eq!(bench.calls(), 1, "{member}");
    }
}

#[tokio::test]
async fn reasoning_of_another_account_is_dropped_once() {
    let refusal = Script::json(400, r#"{"error":{"code":"invalid_encrypted_content","message":"no"}}"#);
    let json = r#"{"type":"reasoning","summary":[],"encrypted_content":"x"}"#;
    let raw = RawValue::from_string(json.to_owned()).unwrap();
    let mut replayed = request();
    replayed.input.insert(0, Item::Raw { kind: "reasoning".into(), json: Cow::Owned(raw) });
    let bench = Bench::new().await;
    bench.fake.on("/responses", refusal.clone());
    bench.fake.on("/responses", Script::events(&WHOLE));
    let answer = open(&bench.upstream, replayed, &ForwardedHeaders::default()).await.unwrap();
    assert_eq!(answer.warnings, ["repaired:dropped_reasoning"]);
    assert_eq!(bench.fake.requests("/responses")[1].json()["input"].as_array().unwrap().len(), 1);

    let bench = Bench::new().await;
    bench.fake.on("/responses", refusal);
    assert_eq!(fault(bench.open().await), Fault::EncryptedContent);
    assert_eq!(bench.calls(), 1, "without reasoning there is nothing to drop");
}

#[tokio::test]
async fn permanent_failures_are_not_retried() {
    let once = [
        (429, r#"{"error":{"type":"usage_limit_reached","resets_in_seconds":3}}"#, Fault::UsageLimit),
        (429, r#"{"error":{"code":"insufficient_quota"}}"#, Fault::InsufficientQuota),
        (400, r#"{"error":{"code":"context_length_exceeded"}}"#, Fault::ContextLength),
        (403, "<html>Just a moment...</html>", Fault::Challenge),
        (404, "", Fault::WrongPlace),
        (200, r#"{"error":{"message":"odd"}}"#, Fault::WrongPlace),
    ];
    for (status, body, want) in once {
        let bench = Bench::new().await;
        bench.fake.on("/responses", Script::json(status, body));
        assert_eq!(fault(bench.open().await), want, "{status} {body}");
        assert_eq!(bench.calls(), 1, "{status} {body}");
    }
}

#[tokio::test]
async fn the_headers_of_a_codex_client_are_forwarded_both_ways() {
    let bench = Bench::new().await;
    let turn =
        [("x-codex-turn-state", "t-1"), ("x-models-etag", "e"), ("set-cookie", "c=1"), ("x-codex-plan-type", "plus")];
    bench.fake.on("/responses", WHOLE.iter().fold(Script::stream(&turn), |script, data| script.event(data)).end());
    let own = [("session-id", "theirs"), ("x-codex-window-id", "w:0")];
    let forwarded = own.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let forwarded = ForwardedHeaders { codex: Some(forwarded), ..ForwardedHeaders::default() };
    let answer = timeout(10 * SECOND, open(&bench.upstream, request(), &forwarded)).await.unwrap().unwrap();
    let mut shown: Vec<_> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["x-codex-plan-type", "x-codex-turn-state", "x-models-etag"]);
    let sent = bench.fake.requests("/responses").remove(0);
    assert_eq!((sent.header("session-id"), sent.header("x-codex-window-id")), ("theirs", "w:0"));
    assert_eq!(bench.open().await.unwrap().headers.len(), 1, "any other client sees only the quota");
}
