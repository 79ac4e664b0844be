//! How the store's text lies in a keyring: whole, whatever one entry can hold.
//!
//! Some platforms take little into one entry (Windows 2560 bytes). The head entry carries a line
//! that tells how many parts there are and the digest of all of them, then the first part; the
//! others have entries of their own, which are written before the head. Two generations of names
//! take turns, so that a writer who is killed half way leaves the old text whole. Blocks: the
//! vault calls it on a thread of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyring_core::{CredentialStore, Entry, Error};
use sha2::{Digest, Sha256};

/// What the entries are filed under, for people who look into their keyring.
pub(super) const SERVICE: &str = "codex-proxy";
const MARK: &str = "codex-proxy-store 1";
/// The longest that the line at the beginning of a head can be.
const LINE_BYTES: usize = 128;
/// A reader who meets a writer that often has other troubles.
const TRIES: u32 = 4;

/// Which of the two sets of names holds the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Even,
    Odd,
}

/// The entry that tells of the others.
struct Head {
    generation: Generation,
    parts: usize,
    digest: String,
    beginning: Vec<u8>,
}

/// The text that is filed under a name; `None`: there is none.
pub(super) fn get(keyring: &CredentialStore, name: &str) -> Result<Option<Vec<u8>>, Error> {
    for _ in 0..TRIES {
        let Some(bytes) = read(keyring, name)? else { return Ok(None) };
        let head = Head::parse(&bytes).ok_or_else(damaged)?;
        // A writer may have been faster than we are: then the head is another one now.
        if let Some(text) = gather(keyring, name, head)? {
            return Ok(Some(text));
        }
    }
    Err(damaged())
}

/// Files a text under a name, in the place of the one before.
pub(super) fn put(keyring: &CredentialStore, name: &str, text: &[u8], limit_bytes: usize) -> Result<(), Error> {
    let before = read(keyring, name)?.as_deref().and_then(Head::parse);
    let generation = before.map_or(Generation::Even, |head| head.generation.other());
    let (beginning, rest) = text.split_at(text.len().min(limit_bytes.saturating_sub(LINE_BYTES)));
    let mut parts = 1;
    for part in rest.chunks(limit_bytes) {
        entry(keyring, &generation.name(name, parts))?.set_secret(part)?;
        parts += 1;
    }
    let head = Head { generation, parts, digest: digest(text), beginning: beginning.to_vec() };
    entry(keyring, name)?.set_secret(&head.to_bytes())?;
    sweep(keyring, name, generation, parts)?;
    sweep(keyring, name, generation.other(), 1)
}

/// Takes away what is filed under a name.
pub(super) fn remove(keyring: &CredentialStore, name: &str) -> Result<(), Error> {
    delete(keyring, name)?;
    sweep(keyring, name, Generation::Even, 1)?;
    sweep(keyring, name, Generation::Odd, 1)
}

fn gather(keyring: &CredentialStore, name: &str, head: Head) -> Result<Option<Vec<u8>>, Error> {
    let mut text = head.beginning;
    for index in 1..head.parts {
        match read(keyring, &head.generation.name(name, index))? {
            Some(part) => text.extend(part),
            None => return Ok(None),
        }
    }
    Ok((digest(&text) == head.digest).then_some(text))
}

/// Deletes the parts from an index on: those of a longer text, and of writers who were killed.
fn sweep(keyring: &CredentialStore, name: &str, generation: Generation, first: usize) -> Result<(), Error> {
    let mut index = first;
    while delete(keyring, &generation.name(name, index))? {
        index += 1;
    }
    Ok(())
}

fn read(keyring: &CredentialStore, name: &str) -> Result<Option<Vec<u8>>, Error> {
    match entry(keyring, name)?.get_secret() {
        Err(Error::NoEntry) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether there was something to delete.
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
    Error::BadStoreFormat("the parts do not fit together".to_owned())
}

fn digest(text: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(text))
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (line, beginning) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)? + 1)?;
        let line = std::str::from_utf8(line).ok()?.trim_end().strip_prefix(MARK)?;
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
        let line = format!("{MARK} {} {} {}\n", self.generation.word(), self.parts, self.digest);
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

    fn word(self) -> &'static str {
        match self {
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }

    fn name(self, name: &str, index: usize) -> String {
        format!("{name}#{}{index}", self.word())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use keyring_core::{CredentialStore, mock};

    use super::{LINE_BYTES, entry, get, put, read, remove};

    fn keyring() -> Arc<CredentialStore> {
        mock::Store::new().unwrap()
    }

    #[test]
    fn texts_of_any_length_come_back_whole_and_leave_nothing_behind() {
        let limit = LINE_BYTES + 8;
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
    fn no_entry_is_longer_than_the_platform_takes() {
        let (keyring, limit) = (keyring(), 2560);
        put(&*keyring, "n", &vec![b'x'; 10_000], limit).unwrap();
        for name in ["n", "n#even1", "n#even2", "n#even3", "n#even4"] {
            let length = read(&*keyring, name).unwrap().map(|bytes| bytes.len());
            assert!(length.is_none_or(|length| length <= limit), "{name} {length:?}");
        }
    }

    #[test]
    fn a_writer_who_is_killed_before_the_head_changes_nothing() {
        let (keyring, limit) = (keyring(), LINE_BYTES + 4);
        put(&*keyring, "n", &[b'1'; 500], limit).unwrap();
        entry(&*keyring, "n#odd1").unwrap().set_secret(b"half of another").unwrap();
        assert_eq!(get(&*keyring, "n").unwrap(), Some(vec![b'1'; 500]));
        put(&*keyring, "n", b"2", limit).unwrap();
        assert_eq!(get(&*keyring, "n").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(read(&*keyring, "n#odd1").unwrap(), None);
    }

    #[test]
    fn parts_that_do_not_fit_together_are_an_error_and_never_a_text() {
        let (keyring, limit) = (keyring(), LINE_BYTES + 4);
        put(&*keyring, "n", &[b'1'; 500], limit).unwrap();
        entry(&*keyring, "n#even1").unwrap().set_secret(b"changed").unwrap();
        assert!(get(&*keyring, "n").is_err());
        entry(&*keyring, "n").unwrap().set_secret(b"something else").unwrap();
        assert!(get(&*keyring, "n").is_err());
    }
}
