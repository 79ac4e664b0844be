//! The upstream client against a scripted backend: attempts, commit point, cancellation, catalog.

#![cfg(test)]

mod body_format;
#[path = "../replies/cases.rs"]
#[expect(dead_code, reason = "only the events matter here")]
mod cases;
#[path = "../support/clock.rs"]
mod clock;
#[path = "../support/encoding.rs"]
mod compression;
mod connections;
mod control;
mod encoding;
#[path = "../support/upstream.rs"]
#[expect(dead_code, reason = "no pacing and no outages here")]
mod fake;
mod fallback;
mod quota;
mod retries;
mod routing;
mod streams;
mod tool_rounds;
#[path = "../support/transport.rs"]
mod transport;
mod websocket;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::error::{Fault, ProxyError};
use codex_proxy::net::{self, HttpClient};
use codex_proxy::protocol::codex::request::{
    ExtraMembers, Item, Part, Reasoning, Request, Role, ToolChoice, WireFormat,
};
use codex_proxy::secret::Secret;
use codex_proxy::token_source::{Account, AuthError, Bearer, BoxFuture, SessionState, TokenSource};
use codex_proxy::upstream::{
    AcceptEncoding, BackendResponse, BodyForm, Compression, ForwardedHeaders, Settings, Transport, Upstream,
};
use fake::FakeUpstream;
use futures_util::StreamExt as _;
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
    /// Whether a recovery returns the token of another account.
    is_switched: AtomicBool,
    /// The errors of the next calls.
    troubles: Mutex<VecDeque<AuthError>>,
    /// Rejected tokens that a request could not replace again.
    refused: Mutex<Vec<String>>,
}

impl Tokens {
    fn bearer_now(&self) -> Bearer {
        let recoveries = self.recoveries.load(Ordering::SeqCst);
        let is_other = recoveries > 0 && self.is_switched.load(Ordering::SeqCst);
        let id = if is_other { "acct-2" } else { "acct-1" }.to_owned();
        Bearer { token: Secret::new(format!("at_{recoveries}")), account: Account { id, is_fedramp: true } }
    }
}

impl TokenSource for Tokens {
    fn bearer(&self) -> BoxFuture<'_, Result<Bearer, AuthError>> {
        Box::pin(async {
            let trouble = self.troubles.lock().unwrap().pop_front();
            trouble.map_or_else(|| Ok(self.bearer_now()), Err)
        })
    }

    fn recover<'a>(&'a self, _rejected: &'a Bearer) -> BoxFuture<'a, Result<Bearer, AuthError>> {
        self.recoveries.fetch_add(1, Ordering::SeqCst);
        self.bearer()
    }

    fn check(&self) -> BoxFuture<'_, Result<SessionState, AuthError>> {
        Box::pin(async { Ok(SessionState::Working) })
    }

    fn refused(&self, bearer: &Bearer) -> Option<Duration> {
        self.refused.lock().unwrap().push(bearer.token.expose().to_owned());
        None
    }
}

/// A backend, and a client for it.
struct Bench {
    fake: FakeUpstream,
    upstream: Arc<Upstream>,
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
        let http = http();
        // Building a client is slow, which would count against the short timeouts of a test.
        http.client_for(&settings.url).await.unwrap();
        if settings.transport != Transport::Sse {
            http.upgrading_client_for(&settings.url).await.unwrap();
        }
        let upstream = Arc::new(Upstream::new(settings, http, Arc::clone(&tokens) as Arc<dyn TokenSource>));
        Self { fake, upstream, tokens }
    }

    async fn open(&self) -> Result<BackendResponse, ProxyError> {
        timeout(10 * SECOND, open(&self.upstream, request(), &ForwardedHeaders::default())).await.expect("it ends")
    }

    fn calls(&self) -> usize {
        self.fake.requests("/responses").len()
    }
}

fn settings(url: &str) -> Settings {
    Settings {
        url: Endpoint::parse(url, Trust::KnownHosts).unwrap(),
        transport: if transport::chosen().is_some() { Transport::WebSocket } else { Transport::Sse },
        client_version: None,
        originator: "codex_proxy".to_owned(),
        user_agent: "codex-proxy/0 (test)".to_owned(),
        body: BodyForm::Auto,
        compression: Compression::Auto,
        accept_encoding: AcceptEncoding::Auto,
        first_event_timeout: 5 * SECOND,
        idle_timeout: 5 * SECOND,
        max_retries: 2,
        retry_budget: 30 * SECOND,
        quota_probe: 300 * SECOND,
        commit_after: 5 * SECOND,
        event_limit_bytes: 4096,
        memory_limit_bytes: 1 << 20,
        image_model: "gpt-image-2".to_owned(),
        image_timeout: 300 * SECOND,
        catalogue_file: None,
    }
}

fn http() -> HttpClient {
    HttpClient::new(net::Settings { connect_timeout: 2 * SECOND, ca_file: None, proxy: None })
}

fn request() -> Request<'static> {
    Request {
        format: WireFormat::Classic,
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
        extra: ExtraMembers::default(),
    }
}

/// Gets a token and opens a response with it, like the server for each request.
async fn open(
    upstream: &Arc<Upstream>,
    request: Request<'_>,
    forwarded: &ForwardedHeaders,
) -> Result<BackendResponse, ProxyError> {
    let token = upstream.token(None).await?;
    upstream.begin(request, token, forwarded.clone())?.open().await
}

async fn drain(answer: BackendResponse) -> (Vec<String>, Option<ProxyError>) {
    let mut texts = Vec::new();
    let mut events = answer.events;
    loop {
        match timeout(10 * SECOND, events.next()).await.expect("the stream continues") {
            None => return (texts, None),
            Some(Ok(data)) => texts.push(String::from_utf8(data.to_vec()).unwrap()),
            Some(Err(error)) => return (texts, Some(error)),
        }
    }
}

#[test]
fn both_transports_pass_the_same_tests() {
    let http_only = [
        "http2_",
        "a_response_has_its_events_and_allowed_headers",
        "only_required_headers_are_sent",
        "repairs_still_apply_in_the_new_form",
        "encoding::",
        "fallback::",
        "websocket::",
        // About the HTTP connection pool.
        "connections::",
    ];
    transport::repeat_over_websocket(&http_only);
}

fn fault(result: Result<BackendResponse, ProxyError>) -> Fault {
    match result {
        Err(ProxyError::Upstream(failure)) => failure.fault,
        other => panic!("expected a failure of the backend, got {other:?}"),
    }
}
