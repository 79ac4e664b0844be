//! A soak test of the credential store: processes that share one file, under many faults.
//!
//! Eight processes run for twenty minutes of a clock that is twenty times too fast, with a token that is due
//! every ten seconds. Meanwhile they are killed (also those that hold the lock), the directory of the store is
//! temporarily missing, read-only, or on a full disk, the issuer has errors, and the backend rejects tokens. No
//! used refresh token may be sent again and no login may be lost, except after a kill between the use and the
//! write, which is counted separately. It takes a minute:
//!
//! ```sh
//! cargo test --test soak -- --ignored --exact --nocapture soak     # SOAK_SECONDS=60 SOAK_SEED=1
//! ```
//!
//! The soak test of streams is separate, see `streams`.

#![expect(clippy::unwrap_used, reason = "a soak test that can't continue has failed")]
#![cfg(unix)]

#[path = "../support/upstream.rs"]
#[expect(dead_code, reason = "no timed waits here")]
mod fake;
mod issuer;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "one daemon is started, and checked by its responses")]
mod proxy;
mod scratch_disk;
mod streams;
#[path = "../server/websocket.rs"]
#[expect(dead_code, reason = "turns are read frame by frame")]
mod websocket;
#[path = "../server/wire.rs"]
#[expect(dead_code, reason = "responses are read in pieces")]
mod wire;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_proxy::auth::{Accounts, BackendKind, Issuer, Settings, Store};
use codex_proxy::clock::{Clock, SystemClock};
use codex_proxy::endpoint::{Endpoint, Trust};
use codex_proxy::net::{self, HttpClient};
use codex_proxy::token_source::{AuthError, TokenSource};
use issuer::FakeIssuer;
use scratch_disk::Room;
use tokio::time::{Instant, sleep};

const PROCESSES: usize = 8;
/// Speed of the simulated clock relative to the real one.
const HASTE: u32 = 20;

/// Longer than an access token that is just due stays valid, in real time.
const THE_END_OF_A_TOKEN: Duration = Duration::from_secs(20);

/// A clock that runs too fast, the same in every process.
#[derive(Clone, Debug)]
pub(crate) struct FastClock {
    start: SystemTime,
}

impl Clock for FastClock {
    fn now(&self) -> SystemTime {
        self.start + SystemClock.now().duration_since(self.start).unwrap_or_default() * HASTE
    }
}

/// A deterministic random number generator.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn up_to(&mut self, most: u64) -> u64 {
        // Knuth's constants; the low bits are of poor quality.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % (most + 1)
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.up_to(many - 1) == 0
    }
}

#[expect(clippy::disallowed_methods, reason = "the issuer runs alongside the soak test")]
pub(crate) fn run(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the soak test is configured, and configures its processes, by the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, otherwise: u64) -> u64 {
    variable(name).and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The processes and the faults.
struct Soak {
    _folder: tempfile::TempDir,
    /// The directory of the store.
    place: PathBuf,
    /// The private disk, if there is one.
    room: Option<PathBuf>,
    issuer: FakeIssuer,
    clock: FastClock,
    dice: Dice,
    children: Vec<Child>,
    messages: Vec<String>,
    complaints: (mpsc::Sender<String>, mpsc::Receiver<String>),
    kills: u64,
    kills_of_holders: u64,
    outages: u64,
    full_disks: u64,
    frozen_folders: u64,
    logins: u64,
}

impl Soak {
    async fn start(seed: u64, room: Option<PathBuf>) -> Self {
        let whole = SystemClock.now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let clock = FastClock { start: UNIX_EPOCH + Duration::from_secs(whole) };
        let issuer = FakeIssuer::start(clock.clone(), Dice(seed ^ 0x5eed)).await;
        let (children, complaints) = (Vec::new(), mpsc::channel());
        let folder = tempfile::tempdir().unwrap();
        let (dice, messages) = (Dice(seed), Vec::new());
        let place = room.clone().unwrap_or_else(|| folder.path().to_owned());
        Self {
            _folder: folder,
            place,
            room,
            issuer,
            clock,
            dice,
            children,
            messages,
            complaints,
            kills: 0,
            kills_of_holders: 0,
            outages: 0,
            full_disks: 0,
            frozen_folders: 0,
            logins: 0,
        }
    }

    fn store(&self) -> PathBuf {
        self.place.join("data").join("credentials.json")
    }

    /// Signs in, like a user after a lost login.
    async fn sign_in(&mut self) {
        let held = Store::file(self.store()).lock().await.unwrap();
        let mut document = held.read().await.unwrap();
        document.put(&self.issuer.sign_in());
        document.set_active("acct-1");
        held.write(&document).await.unwrap();
        self.logins += 1;
    }

    fn spawn(&self) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "one_process"]);
        command.env("SOAK_STORE", self.store()).env("SOAK_ISSUER", &self.issuer.address);
        let start = self.clock.start.duration_since(UNIX_EPOCH).unwrap().as_secs();
        command.env("SOAK_START", start.to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (lines, complaints) = (BufReader::new(child.stdout.take().unwrap()).lines(), self.complaints.0.clone());
        let reported = lines.map_while(Result::ok).filter_map(|line| Some(line.split_once("ENDED ")?.1.to_owned()));
        std::thread::Builder::new().spawn(move || reported.for_each(|line| drop(complaints.send(line)))).unwrap();
        child
    }

    /// Kills a process, sometimes one that holds the lock, and starts another one.
    fn kill_one(&mut self) {
        let asking = self.issuer.book().asking.clone();
        let holder = self.children.iter().position(|child| asking.contains(&child.id()));
        let aimed = holder.filter(|_| self.dice.one_in(6));
        self.kills_of_holders += u64::from(aimed.is_some());
        let index = aimed.unwrap_or_else(|| usize::try_from(self.dice.up_to(PROCESSES as u64 - 1)).unwrap());
        let child = &mut self.children[index];
        // Before the signal, so that its effects are attributed to it.
        self.issuer.book().killed.insert(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        self.kills += 1;
        self.children[index] = self.spawn();
    }

    /// Makes writes fail temporarily, in one of the available ways.
    async fn trouble(&mut self) {
        let Some(room) = self.room.clone() else { return self.outage().await };
        let moment = Duration::from_millis(self.dice.up_to(300));
        match self.dice.up_to(2) {
            0 => self.outage().await,
            1 => {
                scratch_disk::fill(&room, moment).await;
                self.full_disks += 1;
            }
            _ => self.frozen_folders += u64::from(scratch_disk::freeze(&room.join("data"), moment).await),
        }
    }

    /// Replaces the directory with something else.
    async fn outage(&mut self) {
        let (data, aside) = (self.place.join("data"), self.place.join("aside"));
        std::fs::rename(&data, &aside).unwrap();
        std::fs::write(&data, "in the way").unwrap();
        sleep(Duration::from_millis(self.dice.up_to(150))).await;
        std::fs::remove_file(&data).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        self.outages += 1;
    }

    async fn live(&mut self, span: Duration) {
        self.sign_in().await;
        self.children = (0..PROCESSES).map(|_| self.spawn()).collect();
        let until = Instant::now() + span;
        while Instant::now() < until {
            sleep(Duration::from_millis(50 + self.dice.up_to(200))).await;
            match self.dice.up_to(9) {
                0 | 1 => self.trouble().await,
                _ => self.kill_one(),
            }
            self.make_good().await;
        }
    }

    /// Signs in after a loss; after the first one, not before the loss was reported.
    async fn make_good(&mut self) {
        let lost = u64::try_from(self.issuer.book().losses.len()).unwrap();
        if lost < self.logins {
            return;
        }
        let until = Instant::now() + THE_END_OF_A_TOKEN;
        while self.messages.is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
            self.messages.extend(self.complaints.1.try_iter());
        }
        self.sign_in().await;
    }

    /// Waits until all processes are idle, then stops them; returns the stored and the expected tokens.
    async fn rest(&mut self) -> (String, String) {
        let until = Instant::now() + Duration::from_secs(10);
        let found = loop {
            sleep(Duration::from_millis(20)).await;
            self.make_good().await;
            let found = (stored_token(&self.store()).await, self.issuer.newest());
            // They differ while a refresh is in progress.
            if Instant::now() > until || (found.0 == found.1 && self.issuer.book().asking.is_empty()) {
                break found;
            }
        };
        for child in &mut self.children {
            self.issuer.book().killed.insert(child.id());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.messages.extend(self.complaints.1.try_iter());
        found
    }
}

async fn stored_token(store: &Path) -> String {
    let document = Store::file(store).read().await.unwrap();
    document.get("acct-1").unwrap().unwrap().refresh_token.unwrap().expose().to_owned()
}

#[tokio::test]
#[ignore = "it takes a minute: cargo test --test soak -- --ignored --exact --nocapture soak"]
async fn soak() {
    let (seconds, seed) = (number("SOAK_SECONDS", 60), number("SOAK_SEED", 1));
    let room = match Room::enter() {
        Room::Elsewhere { is_success } => return assert!(is_success, "see above"),
        Room::Here(room) => Some(room),
        Room::None(why) => {
            println!("no disk of our own ({why}): the full disk and the read-only folder are left out");
            None
        }
    };
    let mut soak = Soak::start(seed, room).await;
    soak.live(Duration::from_secs(seconds)).await;
    let (stored, newest) = soak.rest().await;
    let book = soak.issuer.book();
    println!(
        "seed {seed}: {PROCESSES} processes, {} simulated minutes, {} renewals, {} kills ({} of the lock's holder), \
         the folder away {} times, read-only {} times, the disk full {} times, {} troubles of the issuer; spent tokens sent again: {}; logins lost to a kill \
         between spending and write: {}, reported in {} messages",
        seconds * u64::from(HASTE) / 60,
        book.renewals,
        soak.kills,
        soak.kills_of_holders,
        soak.outages,
        soak.frozen_folders,
        soak.full_disks,
        book.troubles,
        book.faults.len(),
        book.losses.len(),
        soak.messages.len(),
    );
    assert!(book.faults.is_empty(), "{:?}", book.faults);
    assert!(book.renewals > seconds / 4, "too few faults occurred to show anything");
    assert!(soak.messages.iter().all(|reported| reported.contains("codex-proxy login")), "{:?}", soak.messages);
    assert!(book.losses.is_empty() || !soak.messages.is_empty(), "no lost login was reported");
    assert_eq!(stored, newest, "the stored token is not the last one issued");
}

#[tokio::test]
#[ignore = "a child of soak"]
async fn one_process() {
    let (Some(store), Some(issuer)) = (variable("SOAK_STORE"), variable("SOAK_ISSUER")) else { return };
    let clock = FastClock { start: UNIX_EPOCH + Duration::from_secs(number("SOAK_START", 0)) };
    let settings = Settings {
        issuer: Endpoint::parse(&issuer, Trust::KnownHosts).unwrap(),
        client_id: "app_soak".to_owned(),
        redirect_host: "localhost".to_owned(),
        scopes: Vec::new(),
        account: None,
        store: BackendKind::File,
        credentials: store.clone().into(),
        originator: String::new(),
        user_agent: format!("soak/{}", std::process::id()),
    };
    let http = HttpClient::new(net::Settings { connect_timeout: Duration::from_secs(2), ca_file: None, proxy: None });
    let accounts = Accounts::new(Store::file(store), Issuer::new(http, &settings), Arc::new(clock), None);
    let mut dice = Dice(std::process::id().into());
    let until = Instant::now() + Duration::from_secs(600);
    let mut reported = String::new();
    while Instant::now() < until {
        match accounts.bearer().await {
            Ok(bearer) if dice.one_in(100) => drop(accounts.recover(&bearer).await),
            Err(error @ AuthError::Ended { .. }) if error.to_string() != reported => {
                reported = error.to_string();
                println!("ENDED {reported}");
            }
            // Transient errors are expected here.
            Ok(_) | Err(_) => {}
        }
        sleep(Duration::from_millis(10)).await;
    }
}
