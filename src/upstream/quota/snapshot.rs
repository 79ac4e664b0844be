//! How much of each account's quota is used, as far as the backend has told.
//!
//! Every answer tells it in its headers, some in their events; else the backend can be asked, which
//! spends nothing. What was told last holds for each limit until its window begins anew. It lives in
//! memory; nothing here decides what becomes of a request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::{Serialize, Serializer};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::protocol::codex::rate_limits::{Limit, Reading, Scope, Window};

/// What is known of an account's quota.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quota {
    /// The account's id.
    pub account_id: String,
    /// Its plan, as the backend spells it.
    pub plan: Option<String>,
    /// When the backend told something of it last.
    #[serde(serialize_with = "rfc3339")]
    pub observed_at: SystemTime,
    /// Its windows: the plan's own limit first, the shortest first in each.
    pub windows: Vec<QuotaWindow>,
}

/// A window as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuotaWindow {
    /// The limit that it belongs to; `None`: the plan's own.
    pub limit: Option<String>,
    /// Whether requests like ours count against it, so that it can stop them.
    pub counts: bool,
    /// What it is called: `5-hour`, `weekly`.
    pub window: String,
    /// Its length.
    pub length_seconds: u64,
    /// How much of it is used, of 100.
    pub used_percent: f64,
    /// When it begins anew, where that is known.
    #[serde(serialize_with = "optional_rfc3339")]
    pub resets_at: Option<SystemTime>,
    /// Where it is going if things go on so; `None`: that is not known, or not yet.
    pub pace: Option<QuotaPace>,
}

/// Where a window is going.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuotaPace {
    /// How much would be used when it begins anew, of 100; it may be more than there is.
    pub projected_percent: f64,
    /// When it would be used up, if that is before it begins anew.
    #[serde(serialize_with = "optional_rfc3339")]
    pub spent_at: Option<SystemTime>,
}

/// The gauges of all accounts.
#[derive(Debug)]
pub(in crate::upstream) struct Gauges {
    clock: Arc<dyn Clock>,
    accounts: Mutex<BTreeMap<String, Known>>,
}

/// One account's.
#[derive(Debug, Default)]
struct Known {
    told: Option<Told>,
    /// When the backend has told something, or was asked in vain.
    looked: Option<Instant>,
    /// Closes when the request for the quota that is under way has ended.
    asking: Option<watch::Receiver<()>>,
}

/// What a caller that needs an account's quota does next.
#[derive(Debug)]
pub(in crate::upstream) enum Ask<'g> {
    /// Nothing: it was learned, or could not be, just now.
    Known,
    /// Wait until the request that another caller has sent is over.
    UnderWay(watch::Receiver<()>),
    /// Send the request.
    Begin(Asking<'g>),
}

/// The request for an account's quota. Dropping it ends the request, and other callers stop waiting. If its
/// caller gave up before the request had a result, the next caller sends another one.
#[derive(Debug)]
pub(in crate::upstream) struct Asking<'g> {
    gauges: &'g Gauges,
    account: &'g str,
    age: Duration,
    _ended: watch::Sender<()>,
}

#[derive(Debug)]
struct Told {
    at: SystemTime,
    plan: Option<String>,
    limits: BTreeMap<Option<String>, Limit>,
}

/// How much is told at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All limits there are.
    Everything,
    /// Whole limits, and maybe not all.
    Limits,
    /// Some windows of some limits.
    Windows,
}

/// Passes what an answer tells on to the gauges of its account.
#[derive(Clone, Debug)]
pub(in crate::upstream) struct Dial {
    gauges: Arc<Gauges>,
    account: String,
}

impl Gauges {
    pub(in crate::upstream) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, accounts: Mutex::default() }
    }

    pub(in crate::upstream) fn dial(self: &Arc<Self>, account: &str) -> Dial {
        Dial { gauges: Arc::clone(self), account: account.to_owned() }
    }

    /// Learns from the headers of an answer.
    pub(in crate::upstream) fn heard(&self, account: &str, headers: &HeaderMap) {
        self.learn(account, Reading::of_headers(headers, self.clock.now()), Extent::Limits);
    }

    /// Learns from the answer to a question; says whether it was one.
    pub(in crate::upstream) fn answered(&self, account: &str, body: &[u8]) -> bool {
        let reading = Reading::of_document(body, self.clock.now());
        let is_answer = reading.is_some();
        self.learn(account, reading.unwrap_or_default(), Extent::Everything);
        is_answer
    }

    /// Whether an account's quota has to be asked for: it was not learned within this span, and no
    /// request for it failed within this span. One request at a time is under way for each account.
    pub(in crate::upstream) fn ask<'g>(&'g self, account: &'g str, age: Duration) -> Ask<'g> {
        let mut accounts = self.lock();
        let known = accounts.entry(account.to_owned()).or_default();
        if !known.is_due(age) {
            return Ask::Known;
        }
        if let Some(asking) = &known.asking {
            return Ask::UnderWay(asking.clone());
        }
        let (ended, asking) = watch::channel(());
        known.asking = Some(asking);
        Ask::Begin(Asking { gauges: self, account, age, _ended: ended })
    }

    /// What is known of one account.
    pub(in crate::upstream) fn of(&self, account: &str) -> Option<Quota> {
        let accounts = self.lock();
        Some(accounts.get(account)?.told.as_ref()?.quota(account, self.clock.now()))
    }

    /// What is known of all.
    pub(in crate::upstream) fn all(&self) -> Vec<Quota> {
        let (accounts, now) = (self.lock(), self.clock.now());
        accounts.iter().filter_map(|(id, known)| Some(known.told.as_ref()?.quota(id, now))).collect()
    }

    fn learn(&self, account: &str, reading: Reading, extent: Extent) {
        if reading.limits.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut accounts = self.lock();
        let known = accounts.entry(account.to_owned()).or_default();
        known.looked = Some(Instant::now());
        let told = known.told.get_or_insert_with(|| Told { at: now, plan: None, limits: BTreeMap::new() });
        told.at = now;
        told.plan = reading.plan.or_else(|| told.plan.take());
        if extent == Extent::Everything {
            told.limits.clear();
        }
        for mut limit in reading.limits {
            let before = told.limits.remove(&limit.name).filter(|_| extent == Extent::Windows);
            let untold = |window: &Window| !limit.windows.iter().any(|told| told.length == window.length);
            let untold: Vec<Window> = before.into_iter().flat_map(|before| before.windows).filter(untold).collect();
            limit.windows.extend(untold);
            limit.windows.sort_by_key(|window| window.length);
            told.limits.insert(limit.name.clone(), limit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_due(&self, age: Duration) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= age)
    }
}

impl Asking<'_> {
    /// Records that the request has a result. If that is a failure, no caller repeats the request at once.
    pub(in crate::upstream) fn finish(self) {
        if let Some(known) = self.gauges.lock().get_mut(self.account)
            && known.is_due(self.age)
        {
            known.looked = Some(Instant::now());
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.gauges.lock().get_mut(self.account) {
            known.asking = None;
        }
    }
}

impl Dial {
    /// Learns from an event.
    pub(in crate::upstream) fn turn(&self, data: &[u8]) {
        if let Some(reading) = Reading::of_event(data, self.gauges.clock.now()) {
            self.gauges.learn(&self.account, reading, Extent::Windows);
        }
    }
}

impl Told {
    fn quota(&self, account: &str, now: SystemTime) -> Quota {
        let windows = |limit: &Limit| {
            let of = |window: &Window| QuotaWindow::of(limit, window.at(now), now);
            limit.windows.iter().map(of).collect::<Vec<_>>()
        };
        Quota {
            account_id: account.to_owned(),
            plan: self.plan.clone(),
            observed_at: self.at,
            windows: self.limits.values().flat_map(windows).collect(),
        }
    }
}

impl Quota {
    /// The window that stops whoever may use only this much of each; the one that does so for longest.
    #[must_use]
    pub fn beyond(&self, percent: u8) -> Option<&QuotaWindow> {
        let beyond = |window: &&QuotaWindow| window.counts && window.used_percent > f64::from(percent);
        self.windows.iter().filter(beyond).max_by_key(|window| (window.resets_at, window.length_seconds))
    }
}

impl QuotaWindow {
    fn of(limit: &Limit, window: Window, now: SystemTime) -> Self {
        let tenths = |percent: f64| (percent * 10.0).round() / 10.0;
        let pace = window.pace(now);
        Self {
            limit: limit.name.clone(),
            counts: limit.scope == Scope::Plan,
            window: window.name(),
            length_seconds: window.length.as_secs(),
            used_percent: tenths(window.used_percent),
            resets_at: window.resets_at,
            pace: pace
                .map(|pace| QuotaPace { projected_percent: tenths(pace.projected_percent), spent_at: pace.spent_at }),
        }
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(*time))
}

#[expect(clippy::ref_option, reason = "the form that the derive calls")]
fn optional_rfc3339<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use super::{Ask, Gauges};
    use crate::clock::Clock;

    #[derive(Debug)]
    struct Hands(Mutex<SystemTime>);

    impl Clock for Hands {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    fn document(used: u8, week: u8) -> String {
        format!(
            r#"{{"plan_type":"plus","rate_limit":{{
                "primary_window":{{"used_percent":{week},"limit_window_seconds":604800,"reset_after_seconds":302400}},
                "secondary_window":{{"used_percent":{used},"limit_window_seconds":18000,"reset_after_seconds":9000}}}},
                "code_review_rate_limit":{{"primary_window":{{"used_percent":99,"limit_window_seconds":604800}}}}}}"#
        )
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_last_holds_until_a_window_begins_anew() {
        let hands = Arc::new(Hands(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_795_000_000))));
        let gauges = Arc::new(Gauges::new(Arc::clone(&hands) as Arc<dyn Clock>));
        let minute = Duration::from_secs(60);
        let is_due = |account| !matches!(gauges.ask(account, minute), Ask::Known);
        assert!(matches!(gauges.ask("c", minute), Ask::Begin(_)) && gauges.of("c").is_none());
        assert!(gauges.answered("a", document(60, 20).as_bytes()));
        assert!(!is_due("a") && is_due("b"));
        let beyond = |percent: u8| gauges.of("a").unwrap().beyond(percent).map(|window| window.window.clone());
        assert_eq!([beyond(60), beyond(59), beyond(19)], [None, Some("5-hour".into()), Some("weekly".into())]);

        let event =
            r#"{"rate_limits":{"primary":{"used_percent":70,"window_minutes":300,"reset_after_seconds":9000}}}"#;
        gauges.dial("a").turn(event.as_bytes());
        assert_eq!(beyond(69).as_deref(), Some("5-hour"));
        tokio::time::advance(minute).await;
        assert!(is_due("a"));
        let Ask::Begin(request) = gauges.ask("a", minute) else { panic!("the caller before gave up") };
        request.finish();
        assert!(!is_due("a"), "the request failed");
        assert!(!gauges.answered("a", b"<html>"));
        *hands.0.lock().unwrap() += Duration::from_secs(9000);
        assert_eq!(beyond(1).as_deref(), Some("weekly"), "which the event did not tell");
        assert_eq!(beyond(20), None, "the code review's window is none of ours");
        gauges.answered("a", br#"{"rate_limit":{"primary_window":{"used_percent":3,"limit_window_seconds":604800}}}"#);
        assert_eq!(gauges.of("a").unwrap().windows.len(), 1);
    }

    #[tokio::test]
    async fn one_request_at_a_time_is_under_way_for_each_account() {
        let gauges = Gauges::new(Arc::new(Hands(Mutex::new(UNIX_EPOCH))));
        let minute = Duration::from_secs(60);
        let Ask::Begin(request) = gauges.ask("a", minute) else { panic!("none is under way") };
        let Ask::UnderWay(mut end) = gauges.ask("a", minute) else { panic!("one is under way") };
        assert!(matches!(gauges.ask("b", minute), Ask::Begin(_)), "another account's");
        gauges.answered("a", document(60, 20).as_bytes());
        drop(request);
        assert!(end.changed().await.is_err() && matches!(gauges.ask("a", minute), Ask::Known));
    }

    #[test]
    fn it_is_written_as_it_is_documented() {
        let hands = Hands(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_795_000_000)));
        let gauges = Gauges::new(Arc::new(hands));
        gauges.answered("a", document(60, 20).as_bytes());
        let written = serde_json::to_value(gauges.all()).unwrap();
        let expected = serde_json::json!({
            "limit": null, "counts": true, "window": "5-hour", "length_seconds": 18000, "used_percent": 60.0,
            "resets_at": "2026-11-18T13:36:40Z",
            "pace": {"projected_percent": 120.0, "spent_at": "2026-11-18T12:46:40Z"},
        });
        assert_eq!(written[0]["windows"][0], expected);
        assert_eq!(written[0]["plan"], "plus");
        assert_eq!(written[0]["windows"][2]["counts"], false);
    }
}
