//! The clients: each sends one request after the other, in any API, and reads at its own speed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Stage;
use super::judge::{Dialect, End, Heard, Mode};
use super::plan::{Plan, index};
use crate::Dice;
use crate::websocket::Socket;
use crate::wire::{Ask, Open};

const DIALECTS: [Dialect; 5] =
    [Dialect::Chat, Dialect::Completions, Dialect::Responses, Dialect::Messages, Dialect::Socket];
/// Maximum number of bytes per read.
const GULP_BYTES: usize = 64 * 1024;
/// A slow reader pauses only for this many reads, to limit the duration of the test.
const SLOW_SIPS: usize = 20;
/// Maximum number of bytes that a client reads before it disconnects.
const LEAVING_BYTES: u64 = 12_000;

/// How a client reads its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Fast,
    /// In small reads with pauses.
    Slow,
    /// It disconnects in the middle.
    Leaving,
}

/// A client.
pub(crate) struct Client<'s> {
    stage: &'s Stage,
    dice: Dice,
}

impl<'s> Client<'s> {
    pub(crate) fn new(stage: &'s Stage, dice: Dice) -> Self {
        Self { stage, dice }
    }

    pub(crate) async fn live(mut self, until: Instant) {
        // They don't start at the same time.
        sleep(self.up_to_milliseconds(1000)).await;
        while Instant::now() < until {
            let manner = match self.dice.up_to(9) {
                0 => Manner::Leaving,
                1 | 2 => Manner::Slow,
                _ => Manner::Fast,
            };
            match DIALECTS[index(&mut self.dice, DIALECTS.len())] {
                Dialect::Socket => self.converse(manner).await,
                dialect => {
                    let mode = if self.dice.one_in(3) { Mode::Document } else { Mode::Stream };
                    self.ask(dialect, mode, manner).await;
                }
            }
        }
    }

    /// One response of each kind without faults.
    pub(crate) async fn warm_up(&mut self) {
        for dialect in DIALECTS {
            for mode in [Mode::Document, Mode::Stream] {
                let plan = Plan::smooth(self.stage.number());
                if dialect == Dialect::Socket {
                    self.turns(vec![plan], Manner::Fast).await;
                } else {
                    self.play(&plan, dialect, mode, Manner::Fast).await;
                }
            }
        }
    }

    async fn ask(&mut self, dialect: Dialect, mode: Mode, manner: Manner) {
        let plan = Plan::new(self.stage.number(), self.stage.pace, &mut self.dice);
        self.play(&plan, dialect, mode, manner).await;
    }

    async fn play(&mut self, plan: &Plan, dialect: Dialect, mode: Mode, manner: Manner) {
        plan.give_to(&self.stage.upstream);
        let since = Instant::now();
        let ask = ask(dialect, mode, plan).header("originator", &plan.name);
        let received = self.hear(&ask, dialect, mode, manner).await;
        self.stage.note(plan, dialect, mode, received, since);
    }

    /// Reads a response over HTTP.
    async fn hear(&mut self, ask: &Ask, dialect: Dialect, mode: Mode, manner: Manner) -> Result<Heard, String> {
        let sent = ask.fire(&self.stage.proxy).await;
        if manner == Manner::Leaving && self.dice.one_in(3) {
            sleep(self.up_to_milliseconds(500)).await;
            return Ok(Heard::nothing());
        }
        let mut open = sent.open().await;
        let has_left = self.take(&mut open, manner).await;
        let (body, is_whole) = open.taken();
        if open.status != 200 || mode == Mode::Document {
            return if has_left { Ok(Heard::nothing()) } else { Heard::document(dialect, open.status, &body) };
        }
        let received = Heard::stream(dialect, &body)?;
        match (has_left, is_whole, received.end) {
            (true, ..) | (false, true, End::Whole | End::Failed) => Ok(received),
            _ => Err(format!("the stream just ends, {received:?}")),
        }
    }

    /// Reads in its manner; returns whether it has disconnected.
    async fn take(&mut self, open: &mut Open, manner: Manner) -> bool {
        let most = self.dice.up_to(LEAVING_BYTES);
        let (mut taken_bytes, mut sips) = (0, 0);
        loop {
            let is_slow = manner == Manner::Slow && sips < SLOW_SIPS;
            if is_slow {
                sleep(self.up_to_milliseconds(150)).await;
            }
            let sip = open.sip(if is_slow { 1 + index(&mut self.dice, 4000) } else { GULP_BYTES }).await;
            if sip == 0 {
                return false;
            }
            (taken_bytes, sips) = (taken_bytes + sip as u64, sips + 1);
            if manner == Manner::Leaving && taken_bytes > most {
                return true;
            }
        }
    }

    /// Several turns on one socket.
    async fn converse(&mut self, manner: Manner) {
        let number = self.stage.number();
        let turns = 1 + self.dice.up_to(3);
        let name = format!("soak-{number}");
        let stage = self.stage;
        let plan = |_| Plan::new(stage.number(), stage.pace, &mut self.dice).named(&name);
        let plans = (0..turns).map(plan).collect();
        self.turns(plans, manner).await;
    }

    async fn turns(&mut self, plans: Vec<Plan>, manner: Manner) {
        let mut socket = Socket::open_as(&self.stage.proxy, &[("originator", &plans[0].name)]).await;
        let mut previous = None;
        for plan in plans {
            plan.give_to(&self.stage.upstream);
            let since = Instant::now();
            let most = (manner == Manner::Leaving).then(|| self.dice.up_to(40));
            socket.create(&turn(&plan, previous.take())).await;
            let mut events: Vec<Value> = Vec::new();
            let mut received = Ok(Heard::nothing());
            while most.is_none_or(|most| (events.len() as u64) < most) {
                if manner == Manner::Slow && events.len() < SLOW_SIPS {
                    sleep(self.up_to_milliseconds(100)).await;
                }
                let Ok(event) = socket.hear().await else {
                    received = Err(format!("the socket is closed after {events:?}"));
                    break;
                };
                events.push(event);
                received = Heard::events(Dialect::Socket, &events[events.len() - 1..]);
                if received.as_ref().is_ok_and(|received| received.end != End::Left) {
                    break;
                }
            }
            let received = received.and_then(|_| Heard::events(Dialect::Socket, &events));
            let end = received.as_ref().map_or(End::Left, |received| received.end);
            self.stage.note(&plan, Dialect::Socket, Mode::Stream, received, since);
            match end {
                End::Whole => previous = events.last().map(|event| event["response"]["id"].clone()),
                End::Failed => {}
                End::Left => return,
            }
        }
        socket.close().await;
    }

    fn up_to_milliseconds(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.dice.up_to(most))
    }
}

fn ask(dialect: Dialect, mode: Mode, plan: &Plan) -> Ask {
    let prompt = json!([{"role": "user", "content": "hi"}]);
    let (path, mut body) = match dialect {
        Dialect::Chat => ("/v1/chat/completions", json!({"messages": prompt})),
        Dialect::Completions => ("/v1/completions", json!({"prompt": "hi"})),
        Dialect::Responses | Dialect::Socket => ("/v1/responses", json!({"input": prompt})),
        Dialect::Messages => ("/v1/messages", json!({"messages": prompt, "max_tokens": 100})),
    };
    body["model"] = json!("gpt-5.5");
    body["stream"] = json!(mode == Mode::Stream);
    if dialect == Dialect::Responses {
        body["store"] = json!(!plan.is_big());
    }
    Ask::post(path, &body)
}

/// One turn on a socket, which continues from a previous response if there is one.
fn turn(plan: &Plan, previous: Option<Value>) -> Value {
    let mut body = json!({"model": "gpt-5.5", "input": "hi", "store": !plan.is_big()});
    if let Some(previous) = previous {
        body["previous_response_id"] = previous;
    }
    body
}
