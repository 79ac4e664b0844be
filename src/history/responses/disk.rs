//! Answers in a SQLite file, for as long as those in memory and no more of them.
//!
//! Nothing that passes through here waits for the disk but questions and deletions, and those not
//! for ever. Changes are made by a thread of their own (`queue`); questions are asked on a second
//! connection, so that a long write does not hold them up. Other processes may use the same file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;

use super::super::file::Unusable;
use super::database::{Database, Failure};
use super::queue::{Change, Known, Queue};
use super::{FORM, Owner, Stored, Undeleted};
use crate::clock::Clock;

/// How long the disk is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open store.
#[derive(Debug)]
pub(super) struct Disk {
    queue: Arc<Queue>,
    reader: Arc<Mutex<Database>>,
    clock: Arc<dyn Clock>,
}

/// What is looked for: an answer, or the one that holds an item.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Answer,
    Holder,
}

impl Disk {
    /// Opens the file; says what had to be done about it.
    pub(super) async fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Result<(Self, Option<String>), Unusable> {
        let broken = |path: PathBuf, cause: String| Unusable::Broken { path, cause };
        let interrupted = broken(path.clone(), "opening it was interrupted".to_owned());
        let opening = move || {
            let notice = FORM.prepare(&path, clock.now())?;
            let open = || Database::open(&path).map_err(|error| broken(path.clone(), error.to_string()));
            let (mut writer, reader) = (open()?, open()?);
            // A store that can't be written now can't be used, though it can be read.
            writer.expire(clock.now()).map_err(|error| broken(path.clone(), error.to_string()))?;
            let queue = Arc::new(Queue::default());
            let (worked, time) = (Arc::clone(&queue), Arc::clone(&clock));
            let old_copies = path.clone();
            let tick = move || FORM.drop_old_copies(&old_copies, time.now());
            let time = Arc::clone(&clock);
            let thread = std::thread::Builder::new().name("response-store".to_owned());
            let started = thread.spawn(move || worked.work(writer, time.as_ref(), tick));
            started.map_err(|error| broken(path, error.to_string()))?;
            Ok((Self { queue, reader: Arc::new(Mutex::new(reader)), clock }, notice))
        };
        tokio::task::spawn_blocking(opening).await.unwrap_or(Err(interrupted))
    }

    pub(super) fn keep(&self, owner: &Owner, stored: Stored) {
        if !self.queue.add(Change::Keep(owner.clone(), Arc::new(stored))) {
            tracing::warn!("an answer is not kept: too much waits for the response store's disk already");
        }
    }

    pub(super) async fn find(&self, owner: &Owner, id: &str) -> Option<Arc<Stored>> {
        let found = match self.queue.find(owner, id) {
            Known::Kept(stored) => stored,
            Known::Removed => return None,
            Known::Nothing(_) => self.ask(Wanted::Answer, owner, id).await?,
        };
        self.touch(owner, &found);
        Some(found)
    }

    pub(super) async fn find_holder(&self, owner: &Owner, item: &str) -> Option<Arc<Stored>> {
        let holder = match self.queue.find_holder(owner, item) {
            Known::Kept(stored) => stored,
            Known::Removed => return None,
            Known::Nothing(removed) => {
                self.ask(Wanted::Holder, owner, item).await.filter(|holder| !removed.contains(&holder.id))?
            }
        };
        self.touch(owner, &holder);
        Some(holder)
    }

    pub(super) async fn remove(&self, owner: &Owner, id: &str) -> Result<bool, Undeleted> {
        // One that waits to be written is there, whatever the disk says when its turn comes.
        let is_known = matches!(self.queue.find(owner, id), Known::Kept(_));
        let outcome = self.queue.add_awaited(Change::Remove(owner.clone(), id.to_owned()));
        match timeout(PATIENCE, outcome).await {
            Ok(Ok(removed)) => removed.map(|was_there| was_there || is_known),
            Ok(Err(_)) | Err(_) => Err(Undeleted("the disk does not answer".to_owned())),
        }
    }

    pub(super) async fn settle(&self) {
        if timeout(PATIENCE, self.queue.add_awaited(Change::Settle)).await.is_err() {
            tracing::warn!("the response store's disk is too slow; its latest answers may be lost");
        }
    }

    /// A use that can't be noted is no loss.
    fn touch(&self, owner: &Owner, stored: &Stored) {
        self.queue.add(Change::Touch(owner.clone(), stored.id.clone()));
    }

    async fn ask(&self, wanted: Wanted, owner: &Owner, id: &str) -> Option<Arc<Stored>> {
        let (owner, id, now) = (owner.clone(), id.to_owned(), self.clock.now());
        let asking = async {
            // Held by the thread that asks: a disk that hangs holds up one thread and no more.
            let reader = Arc::clone(&self.reader).lock_owned().await;
            let asked = tokio::task::spawn_blocking(move || match wanted {
                Wanted::Answer => reader.find(&owner, &id, now),
                Wanted::Holder => reader.find_holder(&owner, &id, now),
            });
            asked.await.unwrap_or(Err(Failure::Unreadable))
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(found)) => found.map(Arc::new),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the response store can't be read");
                None
            }
            Err(_) => {
                tracing::warn!("the response store's disk does not answer");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.queue.close();
    }
}
