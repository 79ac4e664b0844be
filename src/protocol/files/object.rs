//! The object that describes a file.

use serde::Serialize;

/// A file, as responses describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileObject {
    /// Its id.
    pub id: String,
    /// Always `file`.
    pub object: &'static str,
    /// Its size.
    pub bytes: u64,
    /// When it was created, in Unix seconds.
    pub created_at: u64,
    /// When it expires, in Unix seconds.
    pub expires_at: u64,
    /// The name that the client gave it.
    pub filename: String,
    /// What it is for.
    pub purpose: String,
    /// Always `processed`: a file can be used when its upload ends.
    pub status: &'static str,
    /// Always null.
    pub status_details: Option<String>,
}

/// The response to the deletion of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeletedFile<'d> {
    /// Its id.
    pub id: &'d str,
    /// Always `file`.
    pub object: &'static str,
    /// Always true.
    pub deleted: bool,
}
