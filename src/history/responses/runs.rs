//! Responses in the background that have not ended. On disk, they survive the process.
//!
//! A run that was queued is run by the next process; one that was running can't be continued, so the next process ends
//! it. A process owns the runs in a file while it holds a lock, which ends with the process in any case. While another
//! process owns them, the runs of this one are not written.

use bytes::Bytes;
use rusqlite::{Connection, params};

use super::ResponseOwner;
use super::database::{DatabaseFailure, owner_of};

/// The second migration of the schema. A row of `runs` is a response that has not ended; `body` is empty once it runs.
pub(super) const TABLE: &str = "
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        is_running INTEGER NOT NULL,
        request TEXT NOT NULL,
        body BLOB NOT NULL,
        object TEXT NOT NULL,
        UNIQUE (owner, id)
    ) STRICT;
";

/// A response in the background that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The client key that it belongs to.
    pub owner: ResponseOwner,
    /// Id of the response.
    pub id: String,
    /// What the server needs besides the body to send the request again. This module doesn't read it.
    pub request: String,
    /// The body of the request; empty once the run has started.
    pub body: Bytes,
    /// The response object, with the status `queued`.
    pub object: String,
}

/// The runs that an earlier process has left, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnfinishedRuns {
    /// Runs that have not started.
    pub queued: Vec<RunRecord>,
    /// Runs that were interrupted.
    pub interrupted: Vec<RunRecord>,
}

/// A change to a run.
#[derive(Clone, Debug)]
pub(super) enum RunChange {
    Queue(RunRecord),
    Start(ResponseOwner, String),
    End(ResponseOwner, String),
}

impl RunChange {
    pub(super) fn apply(&self, connection: &Connection) -> Result<(), DatabaseFailure> {
        match self {
            Self::Queue(RunRecord { owner, id, request, body, object }) => connection.execute(
                "INSERT OR REPLACE INTO runs (owner, id, is_running, request, body, object) VALUES (?1, ?2, 0, ?3, ?4, ?5)",
                params![owner_of(owner), id, request, body.as_ref(), object],
            )?,
            Self::Start(owner, id) => connection.execute(
                "UPDATE runs SET is_running = 1, body = x'' WHERE owner = ?1 AND id = ?2",
                params![owner_of(owner), id],
            )?,
            Self::End(owner, id) => {
                connection.execute("DELETE FROM runs WHERE owner = ?1 AND id = ?2", params![owner_of(owner), id])?
            }
        };
        Ok(())
    }
}

/// Reads all runs.
pub(super) fn unfinished(connection: &Connection) -> Result<UnfinishedRuns, DatabaseFailure> {
    let mut statement =
        connection.prepare("SELECT owner, id, is_running, request, body, object FROM runs ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut found = UnfinishedRuns::default();
    while let Some(row) = rows.next()? {
        let (owner, body): (String, Vec<u8>) = (row.get(0)?, row.get(4)?);
        let owner = ResponseOwner(owner.strip_prefix("key ").map(str::to_owned));
        let (id, request, object) = (row.get(1)?, row.get(3)?, row.get(5)?);
        let run = RunRecord { owner, id, request, body: Bytes::from(body), object };
        if row.get(2)? { found.interrupted.push(run) } else { found.queued.push(run) }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use bytes::Bytes;
    use rusqlite::Connection;

    use super::super::{ResponseOwner, Responses, SCHEMA};
    use super::{RunRecord, UnfinishedRuns};
    use crate::clock::SystemClock;

    async fn open(path: &Path) -> Responses {
        Responses::on_disk(path.to_owned(), Arc::new(SystemClock)).await.unwrap().0
    }

    fn run(id: &str, key: Option<&str>) -> RunRecord {
        let owner = ResponseOwner(key.map(str::to_owned));
        let (request, object) = ("{}".to_owned(), "{}".to_owned());
        RunRecord { owner, id: id.to_owned(), request, body: Bytes::from_static(b"body"), object }
    }

    #[tokio::test]
    async fn the_next_process_finds_the_runs_that_have_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        let store = open(&path).await;
        assert!(store.keeps_runs());
        let (waiting, running, ended) = (run("a", Some("ann 1")), run("b", None), run("c", None));
        for run in [&waiting, &running, &ended] {
            store.queue_run(run.clone()).await.unwrap();
        }
        store.start_run(&running.owner, "b").await.unwrap();
        store.end_run(&ended.owner, "c").await.unwrap();
        let other = open(&path).await;
        assert!(!other.keeps_runs(), "the first process owns the runs");
        assert_eq!(other.unfinished_runs().await.unwrap(), UnfinishedRuns::default());
        drop((store, other));
        let interrupted = vec![RunRecord { body: Bytes::new(), ..running }];
        assert_eq!(
            open(&path).await.unfinished_runs().await.unwrap(),
            UnfinishedRuns { queued: vec![waiting], interrupted }
        );
    }

    #[tokio::test]
    async fn a_file_of_the_first_version_is_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(SCHEMA.migrations[0]).unwrap();
        old.pragma_update(None, "application_id", SCHEMA.application_id).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let store = open(&path).await;
        store.queue_run(run("a", None)).await.unwrap();
        assert_eq!(store.unfinished_runs().await.unwrap().queued.len(), 1);
        assert!(folder.path().join("responses.sqlite3.v1.bak").exists());
    }
}
