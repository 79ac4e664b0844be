//! The object that describes a batch.

use serde::Serialize;
use serde_json::value::RawValue;

/// A batch, as responses describe it. Times are in Unix seconds.
#[derive(Clone, Debug, Serialize)]
pub struct BatchObject {
    /// Its id.
    pub id: String,
    /// Always `batch`.
    pub object: &'static str,
    /// The path that its lines are sent to.
    pub endpoint: String,
    /// The errors in its input file, if it has failed.
    pub errors: Option<BatchErrors>,
    /// The file with its lines.
    pub input_file_id: String,
    /// As the client wrote it.
    pub completion_window: String,
    /// Its status.
    pub status: &'static str,
    /// The file with the results of lines that succeeded, if there are any, once it has ended.
    pub output_file_id: Option<String>,
    /// The file with the results of lines that failed.
    pub error_file_id: Option<String>,
    /// When it was created.
    pub created_at: u64,
    /// When its first line could run.
    pub in_progress_at: Option<u64>,
    /// Always null: a batch has no deadline.
    pub expires_at: Option<u64>,
    /// When all lines had a result.
    pub finalizing_at: Option<u64>,
    /// When its output files were written.
    pub completed_at: Option<u64>,
    /// When its input file turned out to be invalid.
    pub failed_at: Option<u64>,
    /// Always null.
    pub expired_at: Option<u64>,
    /// When a client cancelled it.
    pub cancelling_at: Option<u64>,
    /// When its output files were written after that.
    pub cancelled_at: Option<u64>,
    /// The numbers of its lines.
    pub request_counts: RequestCounts,
    /// As the client sent it.
    pub metadata: Option<Box<RawValue>>,
}

/// The errors in an input file.
#[derive(Clone, Debug, Serialize)]
pub struct BatchErrors {
    /// Always `list`.
    pub object: &'static str,
    /// An array of [`LineError`](super::LineError)s.
    pub data: Box<RawValue>,
}

/// The numbers of lines of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RequestCounts {
    /// All lines.
    pub total: u64,
    /// Those that succeeded.
    pub completed: u64,
    /// Those that failed.
    pub failed: u64,
}
