//! A soak test of streams: many concurrent clients, and a backend with faults.
//!
//! Two hundred clients send requests to the real daemon, over Chat, Completions, Responses (HTTP and WebSocket)
//! and Messages, as streams and documents. Some read slowly, some disconnect in the middle. Every twentieth
//! upstream call fails in one of fifteen ways, and sometimes the backend is unreachable. Each response is
//! checked: it is complete and exact, or an error after a correct prefix. In the end no request is active,
//! tasks and file descriptors are as many as before, and memory hasn't grown since the warm-up. It takes ten
//! minutes, and a short version runs with the other tests:
//!
//! ```sh
//! cargo test --test soak -- --ignored --exact --nocapture streams::soak     # SOAK_SECONDS=600 SOAK_SEED=1
//! ```

#![expect(clippy::print_stdout, reason = "a soak test prints its results")]

mod client;
mod judge;
mod plan;
mod vitals;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use codex_proxy::auth::{Credential, Document};
use codex_proxy::clock::{Clock as _, SystemClock};
use codex_proxy::secret::Secret;
use tokio::time::{Instant, sleep_until};

use crate::fake::{FakeUpstream, Script};
use crate::proxy::{Launch, TestProxy};
use crate::{Dice, number};
use client::Client;
use judge::{Dialect, End, Heard, Mode};
use plan::{Fault, Plan};
use vitals::{Memory, Vitals};

/// Interval of the memory measurements.
const SAMPLE: Duration = Duration::from_secs(2);
/// How long the backend may be unreachable: less than the waits between three attempts.
const AWAY_MILLISECONDS: u64 = 900;

/// A run of this length covers all faults and reaches a stable level.
const LONG_ENOUGH: Duration = Duration::from_secs(300);

/// The length of the run.
struct Size {
    clients: u64,
    span: Duration,
    /// Mean time between the events of a response.
    pace: Duration,
    /// The silence that is a timeout.
    idle: &'static str,
    /// Mean time between outages of the backend.
    away_every: Duration,
}

/// The environment of the run.
struct Stage {
    upstream: FakeUpstream,
    proxy: TestProxy,
    pace: Duration,
    numbers: Cell<u64>,
    book: RefCell<Book>,
}

/// The results.
#[derive(Default)]
struct Book {
    answers: BTreeMap<(Dialect, Mode), u64>,
    whole: u64,
    /// Complete, although an upstream call failed.
    rescued: u64,
    failed: u64,
    left: u64,
    deltas: u64,
    bytes: u64,
    calls: u64,
    faults: BTreeMap<Fault, u64>,
    /// When the backend was unreachable.
    absences: Vec<(Instant, Instant)>,
    /// Failures caused by that.
    unreached: u64,
    /// The slowest response, and its duration.
    longest: (Duration, String),
    wrong: Vec<String>,
}

impl Stage {
    async fn open(size: &Size) -> Self {
        let upstream = FakeUpstream::start().await;
        upstream.on("/models", Script::json(200, r#"{"models":[{"slug":"gpt-5.5"}]}"#));
        let (access, refresh) = (Secret::new("at-soak"), Secret::new("rt-soak"));
        let now = Some(SystemClock.now());
        let mut document = Document::empty();
        document.put(&Credential::from_tokens(Some("acct-1".to_owned()), None, access, Some(refresh), now).unwrap());
        document.set_active("acct-1");
        let proxy = Launch::new()
            .setting("upstream.url", &upstream.url())
            .setting("auth.url", "http://127.0.0.1:9")
            .setting("upstream.first_event_timeout", size.idle)
            .setting("upstream.idle_timeout", size.idle)
            .setting("timing.keepalive", "700ms")
            .setting("log.level", "error")
            // Allocator settings that return freed memory, so that resident memory shows what is in use.
            .variable("MALLOC_ARENA_MAX", "1")
            .variable("MALLOC_MMAP_THRESHOLD_", "65536")
            .variable("MALLOC_TRIM_THRESHOLD_", "131072")
            .file("credentials.json", &document.to_text())
            .start();
        Self { upstream, proxy, pace: size.pace, numbers: Cell::new(0), book: RefCell::default() }
    }

    /// A unique number for each request.
    fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// Checks a response, and records the result.
    fn note(&self, plan: &Plan, dialect: Dialect, mode: Mode, heard: Result<Heard, String>, since: Instant) {
        let calls = self.upstream.forget(&plan.name);
        let mut book = self.book.borrow_mut();
        let was_away = book.absences.iter().any(|&(_, until)| until > since);
        let verdict = heard.and_then(|heard| heard.judge(plan, calls, mode, was_away).map(|()| heard));
        *book.answers.entry((dialect, mode)).or_default() += 1;
        book.calls += calls as u64;
        let acts = &plan.acts[..calls.min(plan.acts.len())];
        for fault in acts.iter().filter_map(|act| act.fault) {
            *book.faults.entry(fault).or_default() += 1;
        }
        let faults: Vec<_> = acts.iter().map(|act| act.fault).collect();
        let title = format!("{dialect:?} {mode:?} {} {faults:?}", plan.name);
        if since.elapsed() > book.longest.0 {
            book.longest = (since.elapsed(), title.clone());
        }
        match verdict {
            Err(why) => book.wrong.push(format!("{title}: {why}")),
            Ok(heard) => {
                book.deltas += heard.deltas;
                book.bytes += heard.text.len() as u64;
                match heard.end {
                    End::Whole => {
                        book.whole += 1;
                        book.rescued += u64::from(calls > 1);
                    }
                    End::Failed => {
                        book.failed += 1;
                        book.unreached += u64::from(calls == 0);
                    }
                    End::Left => book.left += 1,
                }
            }
        }
    }

    /// Makes the backend unreachable from time to time.
    async fn trouble(&self, every: Duration, mut dice: Dice, until: Instant) {
        loop {
            let next = Instant::now()
                + every.mul_f64(0.5)
                + Duration::from_millis(dice.up_to(u64::try_from(every.as_millis()).unwrap()));
            if next > until {
                return;
            }
            sleep_until(next).await;
            let span = Duration::from_millis(100 + dice.up_to(AWAY_MILLISECONDS - 100));
            // A request that is rejected at the very end gets its error after the waits between attempts.
            let reported = Instant::now() + span + Duration::from_secs(2);
            self.book.borrow_mut().absences.push((Instant::now(), reported));
            self.upstream.step_out(span).await;
        }
    }

    async fn watch(&self, until: Instant) -> Memory {
        let mut memory = Memory::default();
        while Instant::now() < until {
            let due = until.min(Instant::now() + SAMPLE);
            sleep_until(due).await;
            memory.latest = memory.latest.max(due.elapsed());
            memory.sample(&self.proxy);
        }
        memory
    }
}

/// The complete run: the daemon, the load, the idle phase, and the checks.
async fn run(size: Size, seed: u64) {
    println!("seed {seed}: {} clients for {:?}", size.clients, size.span);
    let stage = Stage::open(&size).await;
    Client::new(&stage, Dice(seed)).warm_up().await;
    let resting = Vitals::at_rest(&stage.proxy, &stage.upstream).await;
    let until = Instant::now() + size.span;
    // Similar seeds give similar first values.
    let dice = |number: u64| Dice(seed.wrapping_mul(1 << 20).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let clients = (0..size.clients).map(|number| Client::new(&stage, dice(number)).live(until));
    let (memory, _, ()) = tokio::join!(
        stage.watch(until),
        futures_util::future::join_all(clients),
        stage.trouble(size.away_every, dice(size.clients), until),
    );
    let rested = resting.back_to(&stage.proxy, &stage.upstream).await;
    let book = stage.book.borrow();
    book.tell(&memory, resting, rested);
    assert!(book.wrong.is_empty(), "{} wrong answers:\n{}", book.wrong.len(), book.wrong.join("\n"));
    assert_eq!(rested, resting, "some values differ from the baseline");
    assert!(!stage.proxy.log().contains("panicked"), "{}", stage.proxy.log());
    if size.span >= LONG_ENOUGH {
        book.assert_mixed();
        memory.assert_flat();
    }
}

impl Book {
    fn tell(&self, memory: &Memory, resting: Vitals, rested: Vitals) {
        println!(
            "{} answers: {} whole ({} of them after a fault), {} reported as failed ({} without a call), {} left by their client",
            self.answers.values().sum::<u64>(),
            self.whole,
            self.rescued,
            self.failed,
            self.unreached,
            self.left,
        );
        println!("{:?}", self.answers);
        println!("{} deltas in streams, {} bytes of text", self.deltas, self.bytes);
        let faults = self.faults.values().sum::<u64>();
        println!("{} calls, {faults} with a fault: {:?}; away {} times", self.calls, self.faults, self.absences.len());
        println!("at rest before {resting:?}, after {rested:?}");
        println!("longest {:?}: {}", self.longest.0, self.longest.1);
        println!("memory: {memory}");
    }

    /// Every kind of fault must have occurred.
    fn assert_mixed(&self) {
        assert_eq!(self.answers.len(), 9, "{:?}", self.answers);
        assert_eq!(self.faults.len(), 15, "{:?}", self.faults);
        assert!(self.rescued > 0 && self.failed > 0 && self.left > 0 && self.unreached > 0, "too few faults occurred");
    }
}

#[tokio::test]
async fn every_concurrent_response_is_exact_or_an_error_and_nothing_leaks() {
    let size = Size {
        clients: 40,
        span: Duration::from_secs(3),
        pace: Duration::from_millis(10),
        idle: "2s",
        away_every: Duration::from_secs(2),
    };
    run(size, number("SOAK_SEED", 1)).await;
}

#[tokio::test]
#[ignore = "it takes ten minutes: cargo test --test soak -- --ignored --exact --nocapture streams::soak"]
async fn soak() {
    let size = Size {
        clients: 200,
        span: Duration::from_secs(number("SOAK_SECONDS", 600)),
        pace: Duration::from_millis(120),
        idle: "5s",
        away_every: Duration::from_secs(10),
    };
    run(size, number("SOAK_SEED", 1)).await;
}
