//! Opens the file: its form, its version, and what is done about one that can't be used.
//!
//! A file of an older version is migrated, with a copy beside it that lives as long as an answer
//! does. One of a later version, or of another program, is left as it is and not used. A damaged one
//! is set aside, and a new one takes its place. Everything here blocks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{LIFETIME, place};

/// What each version adds to the one before; the first makes an empty file ours.
const STEPS: &[&str] = &["
    CREATE TABLE answers (
        number INTEGER PRIMARY KEY,
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        use_number INTEGER NOT NULL,
        used_at INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        account TEXT,
        cache_key TEXT NOT NULL,
        response TEXT NOT NULL,
        input TEXT NOT NULL,
        output TEXT NOT NULL,
        UNIQUE (owner, id)
    ) STRICT;
    CREATE INDEX answers_by_use ON answers (use_number);
    CREATE TABLE items (
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        answer INTEGER NOT NULL REFERENCES answers (number) ON DELETE CASCADE,
        PRIMARY KEY (owner, id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX items_of_answer ON items (answer);
    CREATE TABLE writer (release TEXT NOT NULL) STRICT;
"];
/// Marks the file as ours (`cxpr`).
const APPLICATION: i64 = 0x6378_7072;
/// How long a writer of another process is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// What the log of changes may take when it is idle.
const IDLE_LOG_BYTES: i64 = 4 * 1024 * 1024;

/// Why the file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Written by a later release.
    #[error(
        "{} has version {version}, which {release} wrote; this release reads version {}: use that release, or move \
         the file away", .path.display(), STEPS.len()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        version: usize,
        /// The release that wrote it, as a person calls it.
        release: String,
    },
    /// A database, but of some other program.
    #[error("{} is not a response store of codex-proxy", .0.display())]
    Foreign(PathBuf),
    /// It can't be read or written.
    #[error("{} can't be used: {cause}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The system's or the database's word for it.
        cause: String,
    },
}

/// What is wrong with a file, before it has a name.
#[derive(Debug)]
enum Fault {
    Newer { version: usize, release: String },
    Foreign,
    Damaged(String),
    Broken(String),
}

/// Brings the file into the form that this release reads; says what had to be done about it.
pub(super) fn prepare(path: &Path, now: SystemTime) -> Result<Option<String>, Unusable> {
    prepare_with(path, STEPS, now)
}

fn prepare_with(path: &Path, steps: &[&str], now: SystemTime) -> Result<Option<String>, Unusable> {
    let broken = |error: io::Error| Unusable::Broken { path: path.to_owned(), cause: error.to_string() };
    let _turn = place::take_turn(path).map_err(broken)?;
    drop_copies(path, steps.len(), now);
    let fault = match bring_up(path, steps) {
        Ok(()) => return Ok(None),
        Err(Fault::Damaged(fault)) => fault,
        Err(other) => return Err(other.of(path)),
    };
    let aside = place::set_aside(path).map_err(broken)?;
    bring_up(path, steps).map_err(|again| again.of(path))?;
    let (path, aside) = (path.display(), aside.display());
    Ok(Some(format!("{path} was damaged ({fault}); it is now {aside}, and no earlier answer is known")))
}

/// A connection to a file that has been prepared.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    // Takes effect with the first page; what is deleted makes the file smaller then.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A killed process loses nothing; a machine that loses power may lose the last answers.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "journal_size_limit", IDLE_LOG_BYTES, |_| Ok(()))?;
    Ok(connection)
}

/// Whether the file still has the form that this release writes.
pub(super) fn is_current(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == STEPS.len())
}

/// Removes the copies of older forms: what is in them has had its time.
pub(super) fn drop_old_copies(path: &Path, now: SystemTime) {
    drop_copies(path, STEPS.len(), now);
}

fn drop_copies(path: &Path, version: usize, now: SystemTime) {
    for version in 1..version {
        let copy = copy_of(path, version);
        let written = fs::metadata(&copy).and_then(|metadata| metadata.modified());
        let is_old = written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= LIFETIME));
        if is_old && let Err(error) = fs::remove_file(&copy) {
            tracing::warn!(path = %copy.display(), %error, "an old copy of the response store can't be removed");
        }
    }
}

fn copy_of(path: &Path, version: usize) -> PathBuf {
    place::beside(path, &format!(".v{version}.bak"))
}

fn bring_up(path: &Path, steps: &[&str]) -> Result<(), Fault> {
    let broken = |error: io::Error| Fault::Broken(error.to_string());
    place::make_private(path).map_err(broken)?;
    let is_new = fs::metadata(path).map_err(broken)?.len() == 0;
    let found = if is_new { 0 } else { examine(path, steps.len())? };
    let mut connection = connect(path)?;
    if found > 0 && found < steps.len() {
        copy(&connection, &copy_of(path, found))?;
    }
    migrate(&mut connection, found, steps)
}

/// The version of a file that is ours and whole. Changes nothing about it, since it may not be ours.
fn examine(path: &Path, newest: usize) -> Result<usize, Fault> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(BUSY_PATIENCE)?;
    let found = version(&connection)?;
    let is_ours = if found == 0 { !has_tables(&connection)? } else { application(&connection)? == APPLICATION };
    if !is_ours {
        return Err(Fault::Foreign);
    }
    if found > newest {
        return Err(Fault::Newer { version: found, release: release(&connection) });
    }
    let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    if verdict == "ok" { Ok(found) } else { Err(Fault::Damaged("its pages contradict each other".to_owned())) }
}

fn migrate(connection: &mut Connection, found: usize, steps: &[&str]) -> Result<(), Fault> {
    let due = steps.get(found..).unwrap_or_default();
    if due.is_empty() {
        return Ok(());
    }
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in due {
        change.execute_batch(step)?;
    }
    change.execute("DELETE FROM writer", [])?;
    change.execute("INSERT INTO writer (release) VALUES (?1)", [env!("CARGO_PKG_VERSION")])?;
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap_or(i64::MAX))?;
    Ok(change.commit()?)
}

/// A whole copy, private as the file itself.
fn copy(connection: &Connection, copy: &Path) -> Result<(), Fault> {
    let failed = |error: io::Error| Fault::Broken(format!("{} can't be written: {error}", copy.display()));
    match fs::remove_file(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    place::make_private(copy).map_err(failed)?;
    connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // No release counts below zero: such a file is another program's.
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn application(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

/// Who wrote a file of a later version; what stands there is not believed to be more than a number.
fn release(connection: &Connection) -> String {
    let is_number = |text: &String| text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let found: rusqlite::Result<String> = connection.query_row("SELECT release FROM writer", [], |row| row.get(0));
    match found.ok().filter(is_number) {
        Some(number) => format!("codex-proxy {number}"),
        None => "a later release of codex-proxy".to_owned(),
    }
}

impl Fault {
    fn of(self, path: &Path) -> Unusable {
        let path = path.to_owned();
        match self {
            Self::Newer { version, release } => Unusable::Newer { path, version, release },
            Self::Foreign => Unusable::Foreign(path),
            Self::Damaged(cause) | Self::Broken(cause) => Unusable::Broken { path, cause },
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use rusqlite::Connection;

    use super::{LIFETIME, STEPS, connect, copy_of, prepare_with, version};

    const LATER: &str = "ALTER TABLE answers ADD COLUMN mood TEXT";

    /// When the files of a test are written, or so.
    #[expect(clippy::disallowed_methods, reason = "files are dated by the real clock")]
    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn count(connection: &Connection) -> u32 {
        connection.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_migrated_and_its_copy_kept_for_as_long_as_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        assert_eq!(prepare_with(&path, STEPS, UNIX_EPOCH), Ok(None));
        let row = "INSERT INTO answers (owner, id, use_number, used_at, bytes, cache_key, response, input, output) \
                   VALUES ('', 'a', 1, 1, 1, '', '', '[]', '[]')";
        connect(&path).unwrap().execute_batch(row).unwrap();

        let steps = [STEPS, &[LATER]].concat();
        assert_eq!(prepare_with(&path, &steps, now()), Ok(None));
        let migrated = connect(&path).unwrap();
        assert_eq!((version(&migrated).unwrap(), count(&migrated)), (STEPS.len() + 1, 1));
        migrated.execute_batch("SELECT mood FROM answers; DELETE FROM answers").unwrap();
        let copy = copy_of(&path, STEPS.len());
        let kept = Connection::open(&copy).unwrap();
        assert_eq!((version(&kept).unwrap(), count(&kept)), (STEPS.len(), 1));

        assert_eq!(prepare_with(&path, &steps, now()), Ok(None));
        assert!(copy.exists());
        assert_eq!(prepare_with(&path, &steps, now() + LIFETIME + Duration::from_secs(60)), Ok(None));
        assert!(!copy.exists());
        assert!(prepare_with(&path, STEPS, now()).is_err(), "and what is newer is refused");
    }

    #[test]
    fn the_file_shrinks_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        assert_eq!(prepare_with(&path, STEPS, UNIX_EPOCH), Ok(None));
        let connection = connect(&path).unwrap();
        let value = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        // Incremental vacuum, normal synchronisation.
        assert_eq!((value("auto_vacuum"), value("secure_delete"), value("synchronous")), (2, 1, 1));
        assert_eq!(connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap(), "wal");
    }
}
