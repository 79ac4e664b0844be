//! The upstream client against a scripted backend: attempts, commit point, cancelling, catalogue.

#![cfg(test)]

#[path = "support/upstream.rs"]
mod fake;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use codex_proxy::bearer::{Account, AuthError, Bearer, BoxFuture, TokenSource};
use codex_proxy::error::{Fault, Phase, ProxyError};
use codex_proxy::net::{self, Endpoint, HttpClient, Trust};
use codex_proxy::protocol::codex::request::{Item, Part, Reasoning, Request, Role, ServiceTier, Text, ToolChoice};
use codex_proxy::secret::Secret;
use codex_proxy::upstream::{Answer, Hints, Settings, Upstream};
use fake::{FakeUpstream, Gate, Script};
use futures_util::StreamExt as _;
use serde_json::value::RawValue;
use tokio::time::timeout;

const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
const PROGRESS: &str = r#"{"type":"response.in_progress","response":{"id":"resp_1"}}"#;
const QUOTA: &str = r#"{"type":"codex.rate_limits","plan_type":"pro"}"#;
const ADDED: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"message"}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","output_index":0,"delta":"hi"}"#;
const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"resp_1","output":[]}}"#;
const OVERLOADED: &str =
    r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"busy"}}}"#;
const WHOLE: [&str; 4] = [CREATED, ADDED, DELTA, COMPLETED];
const SECOND: Duration = Duration::from_secs(1);
const ROUTING: &str = "/backend-api/wham/accounts/check";

/// Tokens `at_0`, then after each recovery `at_1`, `at_2`, …
#[derive(Debug, Default)]
struct Tokens {
    recoveries: AtomicUsize,
}

impl Tokens {
    fn bearer_now(&self) -> Bearer {
        let token = Secret::new(format!("at_{}", self.recoveries.load(Ordering::SeqCst)));
        Bearer { token, account: Account { id: "acct-1".to_owned(), is_fedramp: true } }
    }
}

impl TokenSource for Tokens {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async { Ok(self.bearer_now()) })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        self.recoveries.fetch_add(1, Ordering::SeqCst);
        self.bearer()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), AuthError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A backend, and a client for it.
struct Bench {
    fake: FakeUpstream,
    upstream: Upstream,
    tokens: Arc<Tokens>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let fake = FakeUpstream::start().await;
        let mut settings = settings(&fake.url());
        change(&mut settings);
        let tokens = Arc::new(Tokens::default());
        let upstream = Upstream::new(settings, http(), Arc::clone(&tokens) as Arc<dyn TokenSource>);
        Self { fake, upstream, tokens }
    }

    async fn open(&self) -> Result<Answer, ProxyError> {
        timeout(10 * SECOND, self.upstream.open(request(), &Hints::default())).await.expect("it ends")
    }

    fn calls(&self) -> usize {
        self.fake.requests("/responses").len()
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        url: Endpoint::parse(url, Trust::KnownHosts).unwrap(),
        client_version: None,
        originator: "codex_proxy".to_owned(),
        user_agent: "codex-proxy/0 (test)".to_owned(),
        first_event_timeout: 5 * SECOND,
        idle_timeout: 5 * SECOND,
        max_retries: 2,
        retry_budget: 30 * SECOND,
        commit_after: 5 * SECOND,
        event_limit_bytes: 4096,
        catalogue_file: None,
    }
}

fn http() -> HttpClient {
    HttpClient::new(net::Settings { connect_timeout: 2 * SECOND, ca_file: None, proxy: None })
}

fn request() -> Request<'static> {
    Request {
        model: "gpt-5.5".into(),
        instructions: "Be brief.".into(),
        input: vec![Item::Message { role: Role::User, content: vec![Part::InputText("hi".into())] }],
        tools: Vec::new(),
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: true,
        reasoning: Reasoning { effort: None, summary: None },
        text: None,
        service_tier: None,
        prompt_cache_key: "key-1".into(),
    }
}

async fn drain(answer: Answer) -> (Vec<String>, Option<ProxyError>) {
    let mut texts = Vec::new();
    let mut events = answer.events;
    loop {
        match timeout(10 * SECOND, events.next()).await.expect("the stream goes on") {
            None => return (texts, None),
            Some(Ok(data)) => texts.push(String::from_utf8(data.to_vec()).unwrap()),
            Some(Err(error)) => return (texts, Some(error)),
        }
    }
}

fn fault(result: Result<Answer, ProxyError>) -> Fault {
    match result {
        Err(ProxyError::Upstream(failure)) => failure.fault,
        other => panic!("expected a failure of the backend, got {other:?}"),
    }
}

#[tokio::test]
async fn the_headers_that_leave_are_the_few_that_are_needed() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&WHOLE));
    let mut fast = request();
    fast.service_tier = Some(ServiceTier::Priority);
    let hints = Hints { originator: Some("my_tool".to_owned()) };
    bench.upstream.open(fast, &hints).await.unwrap();
    let sent = &bench.fake.requests("/responses")[0];
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/backend-api/codex/responses"));
    let want = [
        ("accept", "text/event-stream"),
        ("authorization", "Bearer at_0"),
        ("chatgpt-account-id", "acct-1"),
        ("content-type", "application/json"),
        ("originator", "my_tool"),
        ("session-id", "key-1"),
        ("user-agent", "codex-proxy/0 (test)"),
        ("version", "0.169.0"),
        ("x-codex-routing-hint", "model=gpt-5.5;tier=priority"),
        ("x-openai-fedramp", "true"),
    ];
    for (name, value) in want {
        assert_eq!(sent.header(name), value, "{name}");
    }
    let mut names: Vec<_> = sent.headers.keys().map(http::HeaderName::as_str).collect();
    names.retain(|name| !want.iter().any(|(known, _)| known == name));
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host"]);
    assert_eq!(sent.json()["prompt_cache_key"], "key-1");
}

#[tokio::test]
async fn an_answer_brings_its_events_and_the_headers_that_a_client_may_see() {
    let bench = Bench::new().await;
    let headers = [
        ("x-codex-primary-used-percent", "12"),
        ("openai-model", "gpt-5.5"),
        ("x-codex-turn-state", "private"),
        ("set-cookie", "a=b"),
        ("x-oai-request-id", "req_1"),
    ];
    let script = Script::stream(&headers).event(QUOTA).event(CREATED).chunk("data: [DONE]\n\n").event(DELTA);
    bench.fake.on("/responses", script.event(COMPLETED).hang());
    let answer = bench.open().await.unwrap();
    assert_eq!(answer.request_id.as_deref(), Some("req_1"));
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, ["openai-model", "x-codex-primary-used-percent"]);
    let (events, error) = drain(answer).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [QUOTA, CREATED, DELTA, COMPLETED]);
    assert!(bench.fake.hung_up(1, SECOND).await, "the connection goes with the terminal event");
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(401, r#"{"detail":"Unauthorized"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    bench.open().await.unwrap();
    let sent = bench.fake.requests("/responses");
    assert_eq!([sent[0].header("authorization"), sent[1].header("authorization")], ["Bearer at_0", "Bearer at_1"]);

    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(401, r#"{"detail":"Unauthorized"}"#));
    assert_eq!(fault(bench.open().await), Fault::Unauthorized);
    assert_eq!((bench.calls(), bench.tokens.recoveries.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn server_trouble_is_hidden_or_given_up_after_three_attempts() {
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
async fn retry_after_is_kept_within_the_budget() {
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
async fn a_failure_after_the_commit_point_is_an_event() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::events(&[CREATED, ADDED, OVERLOADED]));
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(events, [CREATED, ADDED, OVERLOADED]);
    assert_eq!(bench.calls(), 1);
}

#[tokio::test]
async fn silence_after_the_beginning_commits_and_a_prelude_does_not() {
    let bench = Bench::with(|settings| settings.commit_after = SECOND / 20).await;
    let (begin, fail) = (Gate::default(), Gate::default());
    let script = Script::stream(&[]).event(QUOTA).gate(&begin).event(CREATED).gate(&fail).event(OVERLOADED).end();
    bench.fake.on("/responses", script);
    let early = timeout(SECOND / 4, bench.upstream.open(request(), &Hints::default())).await;
    assert!(early.is_err(), "a prelude does not open an answer");
    assert!(bench.fake.hung_up(1, SECOND).await);
    begin.open();
    let answer = bench.open().await.unwrap();
    fail.open();
    let (events, _) = drain(answer).await;
    assert_eq!(events, [QUOTA, CREATED, OVERLOADED]);
}

#[tokio::test]
async fn a_member_that_is_refused_is_left_out_from_then_on() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::json(400, r#"{"detail":"Unsupported parameter: text"}"#));
    bench.fake.on("/responses", Script::events(&WHOLE));
    let with_text = || Request { text: Some(Text { verbosity: Some("low".into()), format: None }), ..request() };
    let hints = Hints::default();
    for _ in 0..2 {
        let answer = bench.upstream.open(with_text(), &hints).await.unwrap();
        assert_eq!(answer.warnings, ["ignored:text"]);
    }
    let has_text: Vec<_> =
        bench.fake.requests("/responses").iter().map(|sent| sent.json().get("text").is_some()).collect();
    assert_eq!(has_text, [true, false, false]);
    assert!(bench.open().await.unwrap().warnings.is_empty(), "a request without the member lost nothing");
}

#[tokio::test]
async fn a_refusal_that_cannot_be_mended_goes_to_the_client() {
    for member in ["input", "never_sent", "reasoning.effort"] {
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
    let answer = bench.upstream.open(replayed, &Hints::default()).await.unwrap();
    assert_eq!(answer.warnings, ["repaired:dropped_reasoning"]);
    assert_eq!(bench.fake.requests("/responses")[1].json()["input"].as_array().unwrap().len(), 1);

    let bench = Bench::new().await;
    bench.fake.on("/responses", refusal);
    assert_eq!(fault(bench.open().await), Fault::EncryptedContent);
    assert_eq!(bench.calls(), 1, "without reasoning there is nothing to drop");
}

#[tokio::test]
async fn an_end_after_the_commit_point_is_a_cut() {
    for end in [Script::end, Script::cut, Script::reset] {
        let bench = Bench::new().await;
        let gate = Gate::default();
        let script = Script::stream(&[]).event(CREATED).event(DELTA).gate(&gate);
        bench.fake.on("/responses", end(script));
        let answer = bench.open().await.unwrap();
        gate.open();
        let (events, error) = drain(answer).await;
        assert_eq!(events, [CREATED, DELTA]);
        assert!(matches!(error, Some(ProxyError::Truncated { .. })), "{error:?}");
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test]
async fn silence_ends_a_stream_and_says_where() {
    let limit = SECOND / 5;
    let bench = Bench::with(|settings| settings.idle_timeout = limit).await;
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    let (_, error) = drain(bench.open().await.unwrap()).await;
    assert!(matches!(error, Some(ProxyError::Silent { phase: Phase::Streaming, limit: l }) if l == limit), "{error:?}");
    assert!(bench.fake.hung_up(1, SECOND).await);

    for script in [Script::silence(), Script::stream(&[]).chunk(": keepalive\n\n").hang()] {
        let bench = Bench::with(|settings| settings.first_event_timeout = limit).await;
        bench.fake.on(ROUTING, Script::json(500, ""));
        bench.fake.on("/responses", script);
        let error = bench.open().await.unwrap_err();
        assert!(matches!(error, ProxyError::Silent { phase: Phase::FirstEvent, .. }), "{error:?}");
        assert_eq!(bench.calls(), 1);
    }
}

#[tokio::test]
async fn an_event_over_the_limit_ends_the_stream() {
    let bench = Bench::new().await;
    let long = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "x".repeat(5000));
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).event(&long).hang());
    let (events, error) = drain(bench.open().await.unwrap()).await;
    assert_eq!(events, [CREATED, DELTA]);
    assert!(matches!(error, Some(ProxyError::EventTooLarge { limit_bytes: 4096 })), "{error:?}");
}

#[tokio::test]
async fn dropping_an_open_call_hangs_up_in_every_phase() {
    let phases = [Script::silence(), Script::stream(&[]).hang(), Script::stream(&[]).event(CREATED).hang()];
    for script in phases {
        let bench = Bench::new().await;
        bench.fake.on("/responses", script);
        let hints = Hints::default();
        tokio::select! {
            opened = bench.upstream.open(request(), &hints) => panic!("{opened:?}"),
            _ = bench.fake.received("/responses", 1) => {}
        }
        assert!(bench.fake.hung_up(1, SECOND).await);
    }
}

#[tokio::test]
async fn dropping_an_open_call_hangs_up_while_connecting() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/backend-api/codex", listener.local_addr().unwrap().port());
    let upstream = Upstream::new(settings(&url), http(), Arc::new(Tokens::default()));
    let hints = Hints::default();
    let mut connection = tokio::select! {
        opened = upstream.open(request(), &hints) => panic!("{opened:?}"),
        accepted = listener.accept() => accepted.unwrap().0,
    };
    let mut hello = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut connection, &mut hello);
    let gone = timeout(SECOND, read).await;
    assert!(gone.is_ok(), "the half-open TLS connection is closed");
}

#[tokio::test]
async fn dropping_an_open_call_ends_its_retries() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::answer(503, &[("retry-after", "1")], ""));
    let early = timeout(SECOND / 2, bench.upstream.open(request(), &Hints::default())).await;
    assert!(early.is_err());
    let more = timeout(SECOND, bench.fake.received("/responses", 2)).await;
    assert!(more.is_err(), "nobody asks again");
}

#[tokio::test]
async fn dropping_the_events_hangs_up() {
    let bench = Bench::new().await;
    bench.fake.on("/responses", Script::stream(&[]).event(CREATED).event(DELTA).hang());
    let answer = bench.open().await.unwrap();
    drop(answer);
    assert!(bench.fake.hung_up(1, SECOND).await);
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let elsewhere = FakeUpstream::start().await;
    let bench = Bench::new().await;
    let target = elsewhere.url();
    bench.fake.on("/responses", Script::answer(307, &[("location", target.as_str())], ""));
    bench.fake.on(ROUTING, Script::answer(302, &[("location", target.as_str())], ""));
    assert_eq!(fault(bench.open().await), Fault::WrongPlace);
    assert_eq!(bench.calls(), 1);
    assert!(elsewhere.requests("").is_empty());
}

#[tokio::test]
async fn what_another_attempt_cannot_mend_is_asked_once() {
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
async fn nobody_listening_is_told_with_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Upstream::new(settings(&url), http(), Arc::new(Tokens::default()));
    let error = upstream.open(request(), &Hints::default()).await.unwrap_err();
    let ProxyError::Unreachable { cause } = error else { panic!("{error:?}") };
    assert!(cause.to_lowercase().contains("refused") && !cause.contains("at_0"), "{cause}");
}

#[tokio::test]
async fn a_connection_that_takes_too_long_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let limit = SECOND / 5;
    let http = HttpClient::new(net::Settings { connect_timeout: limit, ca_file: None, proxy: None });
    let upstream = Upstream::new(Settings { max_retries: 0, ..settings(&url) }, http, Arc::new(Tokens::default()));
    let error = upstream.open(request(), &Hints::default()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Silent { phase: Phase::Connecting, limit: l } if l == limit), "{error:?}");
}

#[tokio::test]
async fn a_bound_workspace_is_sent_to_its_origin() {
    let region = FakeUpstream::start().await;
    region.on("/responses", Script::events(&WHOLE));
    let bench = Bench::new().await;
    let body = format!(
        r#"{{"accounts":[{{"id":"acct-1","workspace_backend_origin":"{}","account_routing_override":"us_cr"}}]}}"#,
        region.origin()
    );
    bench.fake.on(ROUTING, Script::json(200, &body));
    for _ in 0..2 {
        bench.open().await.unwrap();
    }
    let sent = region.requests("/responses");
    assert_eq!((sent.len(), bench.calls()), (2, 0));
    assert_eq!(sent[0].header("x-openai-account-routing-override"), "us");
    let asked = bench.fake.requests("/accounts/check");
    assert_eq!(asked.len(), 1, "the route is remembered");
    assert_eq!((asked[0].header("originator"), asked[0].header("chatgpt-account-id")), ("", "acct-1"));
}

#[tokio::test]
async fn unknown_routing_falls_back_to_the_default_address() {
    let limit = SECOND / 4;
    for script in [Script::json(500, ""), Script::json(200, "{}"), Script::silence(), Script::json(401, "{}")] {
        let bench = Bench::with(|settings| settings.first_event_timeout = limit).await;
        bench.fake.on(ROUTING, script);
        bench.fake.on("/responses", Script::events(&WHOLE));
        for _ in 0..2 {
            bench.open().await.unwrap();
        }
        let asked = bench.fake.requests("/accounts/check").len();
        assert_eq!((bench.calls(), asked), (2, 1 + bench.tokens.recoveries.load(Ordering::SeqCst)));
        assert_eq!(bench.fake.requests("/responses")[0].header("x-openai-account-routing-override"), "");
    }
}

#[tokio::test]
async fn the_catalogue_is_live_then_kept_then_embedded() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("catalogue.json");
    let keep = |settings: &mut Settings| settings.catalogue_file = Some(file.clone());
    let live = r#"{"models":[{"slug":"gpt-live"}]}"#;

    let bench = Bench::with(keep).await;
    assert!(bench.upstream.catalogue().find("gpt-5.5").is_some(), "embedded, before anything is heard");
    bench.fake.on("/models", Script::json(401, ""));
    bench.fake.on("/models", Script::json(200, live));
    bench.upstream.refresh_catalogue().await.unwrap();
    assert_eq!(bench.upstream.catalogue_json(), live);
    assert!(bench.upstream.catalogue().find("gpt-live").is_some());
    let asked = &bench.fake.requests("/models")[1];
    assert_eq!(asked.target, "/backend-api/codex/models?client_version=0.169.0");
    assert_eq!((asked.header("version"), asked.header("originator")), ("0.169.0", "codex_proxy"));
    assert_eq!(asked.header("authorization"), "Bearer at_1");

    let bench = Bench::with(keep).await;
    bench.fake.on("/models", Script::json(500, ""));
    tokio::select! {
        () = bench.upstream.keep_catalogue() => unreachable!("it runs until dropped"),
        _ = bench.fake.received("/models", 1) => {}
    }
    assert_eq!(bench.upstream.catalogue_json(), live, "the file stands in");
}

#[tokio::test]
async fn another_models_etag_fetches_the_catalogue_again() {
    let bench = Bench::new().await;
    bench.fake.on("/models", Script::json(200, r#"{"models":[{"slug":"gpt-live"}]}"#));
    let changed = WHOLE.iter().fold(Script::stream(&[("x-models-etag", "two")]), |script, data| script.event(data));
    bench.fake.on("/responses", changed.end());
    tokio::select! {
        () = bench.upstream.keep_catalogue() => unreachable!("it runs until dropped"),
        () = async {
            bench.fake.received("/models", 1).await;
            bench.open().await.unwrap();
            bench.fake.received("/models", 2).await;
        } => {}
    }
}
