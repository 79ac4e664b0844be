//! The page in each of its states, and hostile text in all of its places.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::view::{Access, View};
use crate::history::{Day, Tokens, UsageReport, UsageRow, UsageSum};
use crate::protocol::models::{Catalogue, Models, Rules};
use crate::server::active_requests::tests::status;
use crate::server::active_requests::{RequestStatus, Stage};
use crate::server::usage::Snapshot;
use crate::token_source::{AuthError, SessionState};
use crate::upstream::{Quota, QuotaPace, QuotaWindow};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_254_031)
}

/// Everything that the page shows; initially empty.
struct State {
    snapshot: Snapshot,
    sign_in: Result<SessionState, AuthError>,
    models: Models,
    address: &'static str,
    access: Access,
}

impl State {
    fn new() -> Self {
        let snapshot = Snapshot {
            version: "0.1.0",
            at: String::new(),
            demo: false,
            quota: Vec::new(),
            totals: None,
            conversations: Vec::new(),
            requests: Vec::new(),
            batches: Vec::new(),
        };
        let models = Models::default();
        Self { snapshot, sign_in: Ok(SessionState::Working), models, address: "localhost:8787", access: Access::Open }
    }

    fn document(&self) -> String {
        let Self { snapshot, sign_in, models, address, access } = self;
        View { snapshot, sign_in, models, address, access: *access, now: now() }.document()
    }
}

fn window(used_percent: f64, spent_at: Option<SystemTime>) -> QuotaWindow {
    QuotaWindow {
        limit: None,
        counts: true,
        window: "weekly".to_owned(),
        length_seconds: 604_800,
        used_percent,
        resets_at: Some(now() + HOUR * 76),
        pace: Some(QuotaPace { projected_percent: 44.4, spent_at }),
    }
}

fn quota(windows: Vec<QuotaWindow>) -> Quota {
    Quota { account_id: "acct-1".to_owned(), plan: Some("plus".to_owned()), observed_at: now(), windows }
}

fn report(rows: Vec<UsageRow>) -> UsageReport {
    let mut sum = UsageSum::default();
    for row in &rows {
        sum.add(row.sum);
    }
    let today = Day::of(now());
    UsageReport { store: "disk", keep_days: 90, since: today.back(29), until: today, sum, rows }
}

fn row(back: u32, model: &str, key: Option<&str>, input: u64) -> UsageRow {
    let tokens = Tokens { input, cached: input / 2, output: input / 10, reasoning: 0 };
    let day = Day::of(now()).back(back);
    UsageRow { day, key: key.map(str::to_owned), model: model.to_owned(), sum: UsageSum { requests: 1, tokens } }
}

fn models(json: &str) -> Models {
    Models { catalogue: Arc::new(Catalogue::parse(json.as_bytes()).unwrap()), rules: Arc::new(Rules::default()) }
}

/// The visible text: no markup, style or script.
fn text(document: &str) -> String {
    let body = document.split("</head>").nth(1).unwrap().split("<script>").next().unwrap();
    let mut text = String::new();
    for piece in body.split('<') {
        let (_, words) = piece.split_once('>').unwrap_or(("", piece));
        text.push_str(words);
    }
    text
}

#[test]
fn an_empty_page_says_what_is_missing() {
    let read = text(&State::new().document());
    for part in [
        "Signed in",
        "hasn’t reported the quota yet",
        "No requests since",
        "can’t be read right now",
        "listed any models",
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
    assert!(!read.contains("Demo"));
    let demo = State { snapshot: Snapshot { demo: true, ..State::new().snapshot }, ..State::new() };
    assert!(text(&demo.document()).contains("Responses are simulated"));
}

#[test]
fn a_signed_out_page_shows_the_command_to_run() {
    for (error, verdict, command) in [
        (AuthError::SignedOut, "Not signed in", "codex-proxy login"),
        (AuthError::Ended { reason: "<revoked>".to_owned() }, "Your session has expired", "codex-proxy login"),
        (AuthError::NoActiveAccount, "No account to use", "codex-proxy accounts use ID"),
    ] {
        let document = State { sign_in: Err(error), ..State::new() }.document();
        let read = text(&document);
        assert!(read.contains(verdict), "{verdict}: {read}");
        assert!(document.contains(&format!("<code>{command}</code>")), "{command}: {document}");
        assert!(!read.contains("Signed in") && read.contains("Sign in to see the quota"), "{read}");
    }
}

#[test]
fn each_window_has_a_labelled_meter_and_its_degree_as_text() {
    let mut state = State::new();
    let windows =
        vec![window(20.0, None), window(80.0, None), window(93.4, Some(now() + HOUR * 3)), window(100.0, None)];
    state.snapshot.quota = vec![quota(windows)];
    let document = state.document();
    assert_eq!(document.matches("<meter ").count(), 4);
    for index in 0..4 {
        assert!(document.contains(&format!("id=\"window-0-{index}\"")));
        assert!(document.contains(&format!("aria-labelledby=\"window-0-{index}\"")));
    }
    assert!(document.contains("value=\"93.4\""));
    let read = text(&document);
    for part in [
        "weekly window20 % used",
        "mostly used",
        "93 % used nearly used up",
        "100 % used used up",
        "Resets in 3 days 4 h, 2026-11-24 13:40 UTC.",
        "At this pace it is used up in 3 h 0 min.",
        "At this pace 44 % will be used by then.",
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
}

#[test]
fn accounts_and_limits_are_distinguished() {
    let mut state = State::new();
    let other = QuotaWindow { limit: Some("review".to_owned()), counts: false, ..window(5.0, None) };
    state.snapshot.quota =
        vec![quota(vec![other]), Quota { account_id: "acct-2".to_owned(), ..quota(vec![window(1.0, None)]) }];
    let document = state.document();
    assert!(document.contains("id=\"window-0-0\"") && document.contains("id=\"window-1-0\""));
    let read = text(&document);
    for part in ["Account acct-1", "Account acct-2", "of the limit review", "don’t count against this window"] {
        assert!(read.contains(part), "{part}: {read}");
    }
}

#[tokio::test]
async fn requests_are_shown_in_each_state() {
    let mut state = State::new();
    let tokens = Some(Tokens { input: 12_345, cached: 2_000, output: 70, reasoning: 0 });
    let ended = RequestStatus {
        state: Stage::Ended,
        duration_ms: 4_200,
        tokens,
        outcome: Some("completed".into()),
        ..status()
    };
    state.snapshot.requests = vec![
        status(),
        RequestStatus { state: Stage::Waiting, model: Some("gpt-5.5".into()), duration_ms: 61_000, ..status() },
        RequestStatus {
            state: Stage::Answering,
            client: Some("curl".into()),
            first_content_ms: Some(1_234),
            ..status()
        },
        ended.clone(),
        RequestStatus { error: Some("client_left"), outcome: Some("client_left".into()), tokens: None, ..ended },
    ];
    let document = state.document();
    assert_eq!(document.matches("class=\"active\"").count(), 3);
    let read = text(&document);
    for part in [
        "3 under way, 2 ended recently",
        "queued for 0 ms",
        "no model yet",
        "unknown client, key desk, chat",
        "waiting for 1 min 1 s",
        "answering for",
        "1.2 s",
        "completed in 4.2 s",
        "client left after 4.2 s",
        "12.3k in, 70 out2.00k cached",
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
}

#[test]
fn usage_has_a_bar_for_each_day_and_tables() {
    let mut state = State::new();
    let rows =
        vec![row(29, "small", None, 10), row(1, "large", Some("desk"), 1_000_000), row(0, "large", None, 500_000)];
    state.snapshot.totals = Some(report(rows));
    let document = state.document();
    assert_eq!(document.matches("<rect ").count(), 3, "one for each day with use");
    assert!(document.contains("height=\"100\"") && document.contains("height=\"1\""), "any usage is visible");
    let read = text(&document);
    for part in ["1.50M", "50 % from the cache", "Busiest day1.10M2026-11-20", "Usage by client key", "desk"] {
        assert!(read.contains(part), "{part}: {read}");
    }
    let by_model = read.split("Usage by model").nth(1).unwrap();
    assert!(by_model.find("large") < by_model.find("small"), "the largest first");
    state.snapshot.totals = Some(UsageReport { store: "off", ..report(Vec::new()) });
    assert!(text(&state.document()).contains("usage.store"));
    state.snapshot.totals = Some(report(Vec::new()));
    assert!(text(&state.document()).contains("No usage in the last 30 days"));
}

#[test]
fn recipes_fit_the_address_the_model_and_the_keys() {
    let listed = models(r#"{"models":[{"slug":"gpt-6.2-sol","context_window":272000,"input_modalities":["text"]}]}"#);
    let state = State { models: listed, address: "127.0.0.1:9", ..State::new() };
    let read = text(&state.document());
    for part in [
        "OPENAI_BASE_URL=http://127.0.0.1:9/v1\nOPENAI_API_KEY=anything",
        "ANTHROPIC_BASE_URL=http://127.0.0.1:9\nANTHROPIC_AUTH_TOKEN=anything",
        "GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:9\nGEMINI_API_KEY=anything",
        "OLLAMA_HOST=http://127.0.0.1:9",
        "&quot;model&quot;: &quot;gpt-6.2-sol&quot;",
        "codex-proxy connect",
        "272k",
    ] {
        assert!(read.contains(part), "{part}: {read}");
    }
    let keyed = text(&State { access: Access::Keyed, ..state }.document());
    assert!(keyed.contains("OPENAI_API_KEY=YOUR-KEY") && keyed.contains("authorization: Bearer YOUR-KEY"), "{keyed}");
    assert!(!keyed.contains("anything"));
}

#[test]
fn recipes_contain_no_text_that_is_special_to_a_shell() {
    for slug in ["x$(touch y)", "x'; rm y", "x`y`", "x y", "x\\\"", "--x|y"] {
        let json = serde_json::json!({"models": [{"slug": slug}]}).to_string();
        let state = State { models: models(&json), address: "$(touch y):1", ..State::new() };
        let document = state.document();
        let recipes = document.split("id=\"clients\"").nth(1).unwrap().split("</section>").next().unwrap();
        assert!(recipes.contains("&quot;MODEL&quot;") && recipes.contains("http://localhost:8787/v1"), "{recipes}");
        assert!(!recipes.contains("touch") && !recipes.contains("rm y"), "{recipes}");
    }
}

#[tokio::test]
async fn text_from_outside_is_escaped() {
    const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&lt;\u{0}\u{202e}";
    let mut state = State::new();
    let hostile = || HOSTILE.to_owned();
    state.snapshot.requests = vec![RequestStatus {
        model: Some(hostile()),
        key: Some(hostile()),
        client: Some(hostile()),
        state: Stage::Ended,
        outcome: Some(hostile()),
        ..status()
    }];
    let window = QuotaWindow { limit: Some(hostile()), window: hostile(), ..window(1.0, None) };
    let quota = Quota { account_id: hostile(), plan: Some(hostile()), ..quota(vec![window]) };
    state.snapshot.quota = vec![quota.clone(), quota];
    state.snapshot.totals = Some(report(vec![row(0, HOSTILE, Some(HOSTILE), 5)]));
    let entry = serde_json::json!({"slug": HOSTILE, "display_name": HOSTILE, "input_modalities": [HOSTILE]});
    state.models = models(&serde_json::json!({"models": [entry]}).to_string());
    state.address = HOSTILE;
    for sign_in in [
        Ok(SessionState::Working),
        Ok(SessionState::Ending { reason: hostile(), expires_at: None }),
        Err(AuthError::Ended { reason: hostile() }),
        Err(AuthError::Store { message: hostile() }),
    ] {
        let document =
            State { sign_in, snapshot: state.snapshot.clone(), models: state.models.clone(), ..state }.document();
        assert_eq!(document.matches("<script").count(), 1, "{document}");
        assert!(!document.contains("<img") && !document.contains('\0'));
        assert!(document.matches("&lt;script&gt;").count() >= 14, "hostile text is in each place: {document}");
    }
}

#[test]
fn sections_have_headings_and_links_have_targets() {
    let document = State::new().document();
    assert!(document.starts_with("<!DOCTYPE html><html lang=\"en\">") && document.contains("<main id=\"main\""));
    let sections = document.matches("<section ").count();
    assert_eq!((sections, document.matches("<h2 id=").count(), document.matches("<h1>").count()), (6, 6, 1));
    for part in document.split("<section ").skip(1) {
        let label = part.split("aria-labelledby=\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(document.contains(&format!("<h2 id=\"{label}\">")), "{label}");
    }
    for link in document.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(document.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(!document.contains(" style=") && !document.contains(" onclick="), "the policy forbids both");
    assert!(!document.contains("src=\"http") && !document.contains("href=\"http"), "no external resources");
}
