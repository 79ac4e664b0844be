//! Opens a store's SQLite file: its form, its version, and what is done about one that can't be used.
//!
//! Each store brings its [`Form`]. A file of an older version is migrated, with a copy beside it that
//! lives as long as what is in it. One of a later version, or of another program, is left as it is and
//! not used. A damaged one is set aside, and a new one takes its place. Everything here blocks.

mod db_file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::fs::{beside, resolve};

/// What makes a file that of a store.
#[derive(Debug)]
pub(super) struct Form {
    /// What the store is called.
    pub(super) noun: &'static str,
    /// What is lost when the file is, for people.
    pub(super) lost: &'static str,
    /// Marks the file as this store's.
    pub(super) application: i64,
    /// What each version adds to the one before; the first makes an empty file the store's. It has a table `writer`.
    pub(super) steps: &'static [&'static str],
    /// How long what is in it lives, and so a copy of it.
    pub(super) lifetime: Duration,
}

/// How long a writer of another process is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);
/// What the log of changes may take when it is idle.
const IDLE_LOG_BYTES: i64 = 4 * 1024 * 1024;

/// Why the file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Written by a later release.
    #[error(
        "{} has version {version}, which {release} wrote; this release reads version {reads}: use that release, or \
         move the file away", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its form.
        version: usize,
        /// The version that this release reads.
        reads: usize,
        /// The release that wrote it, as a person calls it.
        release: String,
    },
    /// A database, but of some other program.
    #[error("{} is not a {noun} of codex-proxy", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it should be.
        noun: &'static str,
    },
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

impl Form {
    /// Brings the file into this form; says what had to be done about it.
    pub(super) fn prepare(&self, path: &Path, now: SystemTime) -> Result<Option<String>, Unusable> {
        // SQLite keeps its own files beside the real one, and so do we.
        let path = &resolve(path);
        let broken = |error: io::Error| Unusable::Broken { path: path.clone(), cause: error.to_string() };
        let _lock = db_file::lock(path).map_err(broken)?;
        self.drop_old_copies(path, now);
        let fault = match self.bring_up(path) {
            Ok(()) => return Ok(None),
            Err(Fault::Damaged(fault)) => fault,
            Err(other) => return Err(other.of(path, self)),
        };
        let aside = db_file::set_aside(path).map_err(broken)?;
        self.bring_up(path).map_err(|again| again.of(path, self))?;
        let (path, aside) = (path.display(), aside.display());
        Ok(Some(format!("{path} was damaged ({fault}); it is now {aside}, and {}", self.lost)))
    }

    /// A connection to a file that is there and whole, for a reader; `None`: there is none.
    pub(super) fn find(&self, path: &Path, now: SystemTime) -> Result<Option<Connection>, Unusable> {
        if !path.exists() {
            return Ok(None);
        }
        let faulty = |fault: Fault| fault.of(path, self);
        match self.examine(path).map_err(faulty)? {
            0 => return Ok(None),
            found if found < self.steps.len() => drop(self.prepare(path, now)?),
            _ => {}
        }
        connect(path).map(Some).map_err(|error| faulty(error.into()))
    }

    /// Whether the file still has the form that this release writes.
    pub(super) fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(version(connection)? == self.steps.len())
    }

    /// Removes the copies of older forms: what is in them has had its time.
    pub(super) fn drop_old_copies(&self, path: &Path, now: SystemTime) {
        let path = resolve(path);
        for version in 1..self.steps.len() {
            let copy = copy_of(&path, version);
            let written = fs::metadata(&copy).and_then(|metadata| metadata.modified());
            let is_old = written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= self.lifetime));
            if is_old && let Err(error) = fs::remove_file(&copy) {
                tracing::warn!(path = %copy.display(), %error, "an old copy of the {} can't be removed", self.noun);
            }
        }
    }

    /// Makes an empty database one of this form.
    pub(super) fn begin(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        self.migrate(connection, 0)
    }

    fn bring_up(&self, path: &Path) -> Result<(), Fault> {
        let broken = |error: io::Error| Fault::Broken(error.to_string());
        db_file::make_private(path, self.noun).map_err(broken)?;
        let is_new = fs::metadata(path).map_err(broken)?.len() == 0;
        let found = if is_new { 0 } else { self.examine(path)? };
        let mut connection = connect(path)?;
        if found > 0 && found < self.steps.len() {
            copy(&connection, &copy_of(path, found), self.noun)?;
        }
        Ok(self.migrate(&mut connection, found)?)
    }

    /// The version of a file that is ours and whole. Changes nothing about it, since it may not be ours.
    fn examine(&self, path: &Path) -> Result<usize, Fault> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_PATIENCE)?;
        let found = version(&connection)?;
        let is_ours =
            if found == 0 { !has_tables(&connection)? } else { application(&connection)? == self.application };
        if !is_ours {
            return Err(Fault::Foreign);
        }
        if found > self.steps.len() {
            return Err(Fault::Newer { version: found, release: release(&connection) });
        }
        let verdict: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if verdict == "ok" { Ok(found) } else { Err(Fault::Damaged("its pages contradict each other".to_owned())) }
    }

    fn migrate(&self, connection: &mut Connection, found: usize) -> rusqlite::Result<()> {
        let due = self.steps.get(found..).unwrap_or_default();
        if due.is_empty() {
            return Ok(());
        }
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in due {
            change.execute_batch(step)?;
        }
        change.execute("DELETE FROM writer", [])?;
        change.execute("INSERT INTO writer (release) VALUES (?1)", [env!("CARGO_PKG_VERSION")])?;
        change.pragma_update(None, "application_id", self.application)?;
        change.pragma_update(None, "user_version", i64::try_from(self.steps.len()).unwrap_or(i64::MAX))?;
        change.commit()
    }
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

fn copy_of(path: &Path, version: usize) -> PathBuf {
    beside(path, &format!(".v{version}.bak"))
}

/// A whole copy, private as the file itself.
fn copy(connection: &Connection, copy: &Path, noun: &str) -> Result<(), Fault> {
    let failed = |error: io::Error| Fault::Broken(format!("{} can't be written: {error}", copy.display()));
    match fs::remove_file(copy) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    db_file::make_private(copy, noun).map_err(failed)?;
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
    fn of(self, path: &Path, form: &Form) -> Unusable {
        let path = path.to_owned();
        match self {
            Self::Newer { version, release } => Unusable::Newer { path, version, reads: form.steps.len(), release },
            Self::Foreign => Unusable::Foreign { path, noun: form.noun },
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

    use super::{Form, connect, copy_of, version};
    use crate::history::responses::FORM;

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
        assert_eq!(FORM.prepare(&path, UNIX_EPOCH), Ok(None));
        let row = "INSERT INTO answers (owner, id, use_number, used_at, bytes, cache_key, response, input, output) \
                   VALUES ('', 'a', 1, 1, 1, '', '', '[]', '[]')";
        connect(&path).unwrap().execute_batch(row).unwrap();

        let later = Form { steps: Box::leak([FORM.steps, &[LATER]].concat().into_boxed_slice()), ..FORM };
        assert_eq!(later.prepare(&path, now()), Ok(None));
        let migrated = connect(&path).unwrap();
        assert_eq!((version(&migrated).unwrap(), count(&migrated)), (FORM.steps.len() + 1, 1));
        migrated.execute_batch("SELECT mood FROM answers; DELETE FROM answers").unwrap();
        let copy = copy_of(&path, FORM.steps.len());
        let kept = Connection::open(&copy).unwrap();
        assert_eq!((version(&kept).unwrap(), count(&kept)), (FORM.steps.len(), 1));

        assert_eq!(later.prepare(&path, now()), Ok(None));
        assert!(copy.exists());
        assert_eq!(later.prepare(&path, now() + FORM.lifetime + Duration::from_secs(60)), Ok(None));
        assert!(!copy.exists());
        assert!(FORM.prepare(&path, now()).is_err(), "and what is newer is refused");
    }

    #[cfg(unix)]
    #[test]
    fn a_damaged_file_behind_a_link_is_set_aside_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link.sqlite3"), folder.path().join("real.sqlite3"));
        std::os::unix::fs::symlink("real.sqlite3", &link).unwrap();
        std::fs::write(&path, "SQLite format 3 no longer, and long enough to be looked at ".repeat(20)).unwrap();
        assert!(FORM.prepare(&link, UNIX_EPOCH).unwrap().is_some());
        assert!(link.is_symlink() && !path.is_symlink() && path.is_file());
        for (name, is_there) in
            [("real.sqlite3.damaged", true), ("real.sqlite3.lock", true), ("link.sqlite3.lock", false)]
        {
            assert_eq!(folder.path().join(name).exists(), is_there, "{name}");
        }
    }

    #[test]
    fn the_file_shrinks_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        assert_eq!(FORM.prepare(&path, UNIX_EPOCH), Ok(None));
        let connection = connect(&path).unwrap();
        let value = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        // Incremental vacuum, normal synchronisation.
        assert_eq!((value("auto_vacuum"), value("secure_delete"), value("synchronous")), (2, 1, 1));
        assert_eq!(connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap(), "wal");
    }
}
