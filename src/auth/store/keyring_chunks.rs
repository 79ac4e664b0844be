//! Stores a text of any length in a keyring, as one or more entries.
//!
//! Some platforms limit the size of an entry (Windows to 2560 bytes). The head entry contains a line with the number
//! of parts and the digest of the whole text, followed by the first part. The other parts have separate entries,
//! which are written before the head. Their names alternate between two generations, so that a writer that is killed
//! leaves the old text intact. Every function blocks.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyring_core::{CredentialStore, Entry, Error};
use sha2::{Digest, Sha256};

/// The service name of the entries, which keyring applications show.
pub(super) const SERVICE: &str = "codex-proxy";
const MAGIC: &str = "codex-proxy-store 1";
/// The maximum length of the first line of a head.
const MAX_LINE_BYTES: usize = 128;
/// How many times a text is read at most. A read fails if a writer changes the entries meanwhile.
const MAX_READS: u32 = 4;

/// Which of the two sets of names the parts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Even,
    Odd,
}

/// The head entry.
struct Head {
    generation: Generation,
    /// Number of parts, including the one in this entry.
    parts: usize,
    digest: String,
    /// The first part of the text.
    beginning: Vec<u8>,
}

/// Reads the text with this name. Returns `None` if there is none.
pub(super) fn get(keyring: &CredentialStore, name: &str) -> Result<Option<Vec<u8>>, Error> {
    for _ in 0..MAX_READS {
        let Some(bytes) = read(keyring, name)? else { return Ok(None) };
        let head = Head::parse(&bytes).ok_or_else(damaged)?;
        // If a writer was faster, the head has changed: read it again.
        if let Some(text) = read_parts(keyring, name, head)? {
            return Ok(Some(text));
        }
    }
    Err(damaged())
}

/// Writes a text, replacing the one with the same name. `limit_bytes` is the maximum size of an entry.
pub(super) fn put(keyring: &CredentialStore, name: &str, text: &[u8], limit_bytes: usize) -> Result<(), Error> {
    let before = read(keyring, name)?.as_deref().and_then(Head::parse);
    let generation = before.map_or(Generation::Even, |head| head.generation.other());
    let (beginning, rest) = text.split_at(text.len().min(limit_bytes.saturating_sub(MAX_LINE_BYTES)));
    let mut parts = 1;
    for part in rest.chunks(limit_bytes) {
        entry(keyring, &generation.name(name, parts))?.set_secret(part)?;
        parts += 1;
    }
    let head = Head { generation, parts, digest: digest(text), beginning: beginning.to_vec() };
    entry(keyring, name)?.set_secret(&head.to_bytes())?;
    delete_parts(keyring, name, generation, parts)?;
    delete_parts(keyring, name, generation.other(), 1)
}

/// Deletes the text with this name.
pub(super) fn remove(keyring: &CredentialStore, name: &str) -> Result<(), Error> {
    delete(keyring, name)?;
    delete_parts(keyring, name, Generation::Even, 1)?;
    delete_parts(keyring, name, Generation::Odd, 1)
}

/// Completes the text. Returns `None` if the parts aren't those of this head.
fn read_parts(keyring: &CredentialStore, name: &str, head: Head) -> Result<Option<Vec<u8>>, Error> {
    let mut text = head.beginning;
    for index in 1..head.parts {
        match read(keyring, &head.generation.name(name, index))? {
            Some(part) => text.extend(part),
            None => return Ok(None),
        }
    }
    Ok((digest(&text) == head.digest).then_some(text))
}

/// Deletes parts, starting at an index: those of a longer text, and of writers that were killed.
fn delete_parts(keyring: &CredentialStore, name: &str, generation: Generation, first: usize) -> Result<(), Error> {
    let mut index = first;
    while delete(keyring, &generation.name(name, index))? {
        index += 1;
    }
    Ok(())
}

/// Reads an entry. Returns `None` if it doesn't exist.
fn read(keyring: &CredentialStore, name: &str) -> Result<Option<Vec<u8>>, Error> {
    match entry(keyring, name)?.get_secret() {
        Err(Error::NoEntry) => Ok(None),
        other => other.map(Some),
    }
}

/// Deletes an entry. Returns whether it existed.
fn delete(keyring: &CredentialStore, name: &str) -> Result<bool, Error> {
    match entry(keyring, name)?.delete_credential() {
        Ok(()) => Ok(true),
        Err(Error::NoEntry) => Ok(false),
        Err(error) => Err(error),
    }
}

fn entry(keyring: &CredentialStore, name: &str) -> Result<Entry, Error> {
    keyring.build(SERVICE, name, None)
}

fn damaged() -> Error {
    Error::BadStoreFormat("the parts don't match".to_owned())
}

fn digest(text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (line, beginning) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)? + 1)?;
        let line = std::str::from_utf8(line).ok()?.trim_end().strip_prefix(MAGIC)?;
        let mut words = line.split_whitespace();
        let generation = match words.next()? {
            "even" => Generation::Even,
            "odd" => Generation::Odd,
            _ => return None,
        };
        let parts = words.next()?.parse().ok()?;
        Some(Self { generation, parts, digest: words.next()?.to_owned(), beginning: beginning.to_vec() })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let line = format!("{MAGIC} {} {} {}\n", self.generation.label(), self.parts, self.digest);
        [line.as_bytes(), &self.beginning].concat()
    }
}

impl Generation {
    fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }

    fn name(self, name: &str, index: usize) -> String {
        format!("{name}#{}{index}", self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyring_core::{CredentialStore, mock};

    use super::{MAX_LINE_BYTES, entry, get, put, read, remove};

    fn keyring() -> Arc<CredentialStore> {
        mock::Store::new().unwrap()
    }

    #[test]
    fn texts_of_any_length_are_read_back_and_leave_no_parts() {
        let limit = MAX_LINE_BYTES + 8;
        for length in [0, 1, 7, 8, 9, 100, 8 + limit, 9 + limit, 5 * limit] {
            let keyring = keyring();
            for round in 0..3_u8 {
                let text = vec![b'a' + round; length * usize::from(3 - round)];
                put(&*keyring, "n", &text, limit).unwrap();
                assert_eq!(get(&*keyring, "n").unwrap(), Some(text), "{length} {round}");
            }
            remove(&*keyring, "n").unwrap();
            assert_eq!(get(&*keyring, "n").unwrap(), None);
            for part in ["n#even1", "n#even2", "n#odd1", "n#odd2"] {
                assert_eq!(read(&*keyring, part).unwrap(), None, "{part} {length}");
            }
        }
    }

    #[test]
    fn no_entry_exceeds_the_limit() {
        let (keyring, limit) = (keyring(), 2560);
        put(&*keyring, "n", &vec![b'x'; 10_000], limit).unwrap();
        for name in ["n", "n#even1", "n#even2", "n#even3", "n#even4"] {
            let length = read(&*keyring, name).unwrap().map(|bytes| bytes.len());
            assert!(length.is_none_or(|length| length <= limit), "{name} {length:?}");
        }
    }

    #[test]
    fn a_writer_that_is_killed_before_the_head_changes_nothing() {
        let (keyring, limit) = (keyring(), MAX_LINE_BYTES + 4);
        put(&*keyring, "n", &[b'1'; 500], limit).unwrap();
        entry(&*keyring, "n#odd1").unwrap().set_secret(b"half of another").unwrap();
        assert_eq!(get(&*keyring, "n").unwrap(), Some(vec![b'1'; 500]));
        put(&*keyring, "n", b"2", limit).unwrap();
        assert_eq!(get(&*keyring, "n").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(read(&*keyring, "n#odd1").unwrap(), None);
    }

    #[test]
    fn parts_that_do_not_match_are_an_error() {
        let (keyring, limit) = (keyring(), MAX_LINE_BYTES + 4);
        put(&*keyring, "n", &[b'1'; 500], limit).unwrap();
        entry(&*keyring, "n#even1").unwrap().set_secret(b"changed").unwrap();
        assert!(get(&*keyring, "n").is_err());
        entry(&*keyring, "n").unwrap().set_secret(b"something else").unwrap();
        assert!(get(&*keyring, "n").is_err());
    }
}
