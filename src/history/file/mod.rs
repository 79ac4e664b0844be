//! Opens the SQLite file of a store: checks its schema and version, and handles files that can't be used.
//!
//! Each store defines its [`Schema`]. A file of an older version is migrated; a copy of it is kept for
//! [`Schema::lifetime`]. A file of a later version or of another program isn't used or changed. A damaged file is
//! renamed and replaced by a new one. Every function blocks.

mod db_file;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::fs::{beside, resolve};

/// The schema of a store's file.
#[derive(Debug)]
pub(super) struct Schema {
    /// Name of the store, for messages.
    pub(super) noun: &'static str,
    /// The data that is lost with a damaged file, for messages.
    pub(super) lost: &'static str,
    /// The SQLite application id.
    pub(super) application_id: i64,
    /// The migration to each version; the first creates the tables. There must be a table `writer`.
    pub(super) migrations: &'static [&'static str],
    /// How long a copy of an older version is kept: as long as the data in it is stored by default.
    pub(super) lifetime: Duration,
}

/// The longest wait for a writer of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum size of the write-ahead log when it is idle.
const IDLE_WAL_BYTES: i64 = 4 * 1024 * 1024;

/// Why a database file can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Written by a later release.
    #[error(
        "{} has version {version}, which {release} wrote; this release reads version {reads}: use that release, or \
         move the file away", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its schema.
        version: usize,
        /// The version that this release reads.
        reads: usize,
        /// The release that wrote it, for messages.
        release: String,
    },
    /// A database of another program.
    #[error("{} is not a {noun} of codex-proxy", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Name of the store that it should be.
        noun: &'static str,
    },
    /// The file can't be read or written.
    #[error("{} can't be used: {cause}", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The error of the system or of SQLite.
        cause: String,
    },
}

/// A [`DatabaseError`] without the path.
#[derive(Debug)]
enum Fault {
    Newer { version: usize, release: String },
    Foreign,
    Damaged(String),
    Broken(String),
}

impl Schema {
    /// Creates or migrates the file. A damaged one is renamed and replaced; then returns a notice for the log.
    pub(super) fn prepare(&self, path: &Path, now: SystemTime) -> Result<Option<String>, DatabaseError> {
        // SQLite's additional files are next to the real file, and so are ours.
        let path = &resolve(path);
        let broken = |error: io::Error| DatabaseError::Broken { path: path.clone(), cause: error.to_string() };
        let _lock = db_file::lock(path).map_err(broken)?;
        self.delete_old_copies(path, now);
        let fault = match self.create_or_migrate(path) {
            Ok(()) => return Ok(None),
            Err(Fault::Damaged(fault)) => fault,
            Err(other) => return Err(other.at(path, self)),
        };
        let renamed = db_file::rename_damaged(path).map_err(broken)?;
        self.create_or_migrate(path).map_err(|error| error.at(path, self))?;
        let (path, renamed) = (path.display(), renamed.display());
        Ok(Some(format!("{path} was damaged ({fault}); it is now {renamed}, and {}", self.lost)))
    }

    /// Opens an existing file to read it, after migrating it if it has an older version. Returns `None` if it doesn't
    /// exist or has no tables yet.
    pub(super) fn find(&self, path: &Path, now: SystemTime) -> Result<Option<Connection>, DatabaseError> {
        if !path.exists() {
            return Ok(None);
        }
        let faulty = |fault: Fault| fault.at(path, self);
        match self.examine(path).map_err(faulty)? {
            0 => return Ok(None),
            found if found < self.migrations.len() => drop(self.prepare(path, now)?),
            _ => {}
        }
        connect(path).map(Some).map_err(|error| faulty(error.into()))
    }

    /// Whether the file still has the version that this release writes.
    pub(super) fn is_current(&self, connection: &Connection) -> rusqlite::Result<bool> {
        Ok(version(connection)? == self.migrations.len())
    }

    /// Deletes copies of older versions whose data has expired.
    pub(super) fn delete_old_copies(&self, path: &Path, now: SystemTime) {
        let path = resolve(path);
        for version in 1..self.migrations.len() {
            let copy = copy_of(&path, version);
            let written = fs::metadata(&copy).and_then(|metadata| metadata.modified());
            let is_old = written.is_ok_and(|written| now.duration_since(written).is_ok_and(|age| age >= self.lifetime));
            if is_old && let Err(error) = fs::remove_file(&copy) {
                tracing::warn!(path = %copy.display(), %error, "an old copy of the {} can't be deleted", self.noun);
            }
        }
    }

    /// Creates the tables in an empty database.
    pub(super) fn create(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        self.migrate(connection, 0)
    }

    fn create_or_migrate(&self, path: &Path) -> Result<(), Fault> {
        let broken = |error: io::Error| Fault::Broken(error.to_string());
        db_file::make_private(path, self.noun).map_err(broken)?;
        let is_new = fs::metadata(path).map_err(broken)?.len() == 0;
        let found = if is_new { 0 } else { self.examine(path)? };
        let mut connection = connect(path)?;
        if found > 0 && found < self.migrations.len() {
            copy(&connection, &copy_of(path, found), self.noun)?;
        }
        Ok(self.migrate(&mut connection, found)?)
    }

    /// Checks that the file is an undamaged one of this store, and returns its version. Changes nothing.
    fn examine(&self, path: &Path) -> Result<usize, Fault> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let found = version(&connection)?;
        let is_ours =
            if found == 0 { !has_tables(&connection)? } else { application_id(&connection)? == self.application_id };
        if !is_ours {
            return Err(Fault::Foreign);
        }
        if found > self.migrations.len() {
            return Err(Fault::Newer { version: found, release: release(&connection) });
        }
        let check: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        if check == "ok" { Ok(found) } else { Err(Fault::Damaged("its pages are inconsistent".to_owned())) }
    }

    fn migrate(&self, connection: &mut Connection, found: usize) -> rusqlite::Result<()> {
        let pending = self.migrations.get(found..).unwrap_or_default();
        if pending.is_empty() {
            return Ok(());
        }
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for migration in pending {
            change.execute_batch(migration)?;
        }
        change.execute("DELETE FROM writer", [])?;
        change.execute("INSERT INTO writer (release) VALUES (?1)", [env!("CARGO_PKG_VERSION")])?;
        change.pragma_update(None, "application_id", self.application_id)?;
        change.pragma_update(None, "user_version", i64::try_from(self.migrations.len()).unwrap_or(i64::MAX))?;
        change.commit()
    }
}

/// Opens a connection to a file that was prepared.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Takes effect with the first page. Deleting data then makes the file smaller.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A killed process loses nothing; a power failure may lose the last transactions.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update_and_check(None, "journal_size_limit", IDLE_WAL_BYTES, |_| Ok(()))?;
    Ok(connection)
}

fn copy_of(path: &Path, version: usize) -> PathBuf {
    beside(path, &format!(".v{version}.bak"))
}

/// Writes a copy with mode 0600.
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
    // Negative versions don't exist: such a file belongs to another program.
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn application_id(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "application_id", |row| row.get(0))
}

fn has_tables(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

/// Returns the release that wrote a file of a later version, if the table contains a version number.
fn release(connection: &Connection) -> String {
    let is_number = |text: &String| text.len() <= 24 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let found: rusqlite::Result<String> = connection.query_row("SELECT release FROM writer", [], |row| row.get(0));
    match found.ok().filter(is_number) {
        Some(number) => format!("codex-proxy {number}"),
        None => "a later release of codex-proxy".to_owned(),
    }
}

impl Fault {
    fn at(self, path: &Path, schema: &Schema) -> DatabaseError {
        let path = path.to_owned();
        match self {
            Self::Newer { version, release } => {
                DatabaseError::Newer { path, version, reads: schema.migrations.len(), release }
            }
            Self::Foreign => DatabaseError::Foreign { path, noun: schema.noun },
            Self::Damaged(cause) | Self::Broken(cause) => DatabaseError::Broken { path, cause },
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

    use super::{Schema, connect, copy_of, version};
    use crate::history::responses::SCHEMA;

    const LATER: &str = "ALTER TABLE answers ADD COLUMN mood TEXT";

    /// The time, as the file system knows it.
    #[expect(clippy::disallowed_methods, reason = "modification times come from the system clock")]
    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn count(connection: &Connection) -> u32 {
        connection.query_row("SELECT count(*) FROM answers", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_older_file_is_migrated_and_its_copy_kept_until_its_data_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        assert_eq!(SCHEMA.prepare(&path, UNIX_EPOCH), Ok(None));
        let row = "INSERT INTO answers (owner, id, use_number, used_at, bytes, cache_key, response, input, output) \
                   VALUES ('', 'a', 1, 1, 1, '', '', '[]', '[]')";
        connect(&path).unwrap().execute_batch(row).unwrap();

        let later =
            Schema { migrations: Box::leak([SCHEMA.migrations, &[LATER]].concat().into_boxed_slice()), ..SCHEMA };
        assert_eq!(later.prepare(&path, now()), Ok(None));
        let migrated = connect(&path).unwrap();
        assert_eq!((version(&migrated).unwrap(), count(&migrated)), (SCHEMA.migrations.len() + 1, 1));
        migrated.execute_batch("SELECT mood FROM answers; DELETE FROM answers").unwrap();
        let copy = copy_of(&path, SCHEMA.migrations.len());
        let copied = Connection::open(&copy).unwrap();
        assert_eq!((version(&copied).unwrap(), count(&copied)), (SCHEMA.migrations.len(), 1));

        assert_eq!(later.prepare(&path, now()), Ok(None));
        assert!(copy.exists());
        assert_eq!(later.prepare(&path, now() + SCHEMA.lifetime + Duration::from_secs(60)), Ok(None));
        assert!(!copy.exists());
        assert!(SCHEMA.prepare(&path, now()).is_err(), "a later version is refused");
    }

    #[cfg(unix)]
    #[test]
    fn a_damaged_file_behind_a_link_is_renamed_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link.sqlite3"), folder.path().join("real.sqlite3"));
        std::os::unix::fs::symlink("real.sqlite3", &link).unwrap();
        std::fs::write(&path, "SQLite format 3 no longer, and long enough to be looked at ".repeat(20)).unwrap();
        assert!(SCHEMA.prepare(&link, UNIX_EPOCH).unwrap().is_some());
        assert!(link.is_symlink() && !path.is_symlink() && path.is_file());
        for (name, is_there) in
            [("real.sqlite3.damaged", true), ("real.sqlite3.lock", true), ("link.sqlite3.lock", false)]
        {
            assert_eq!(folder.path().join(name).exists(), is_there, "{name}");
        }
    }

    #[test]
    fn deleted_data_is_overwritten_and_its_space_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("responses.sqlite3");
        assert_eq!(SCHEMA.prepare(&path, UNIX_EPOCH), Ok(None));
        let connection = connect(&path).unwrap();
        let value = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        // Incremental vacuum, normal synchronisation.
        assert_eq!((value("auto_vacuum"), value("secure_delete"), value("synchronous")), (2, 1, 1));
        assert_eq!(connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0)).unwrap(), "wal");
    }
}
