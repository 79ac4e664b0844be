//! OpenAI's Audio API: transcription of a recording.
//!
//! [`request`] reads the form of a client, [`translate`] writes the backend's, and [`document`] converts the reply. The
//! backend accepts a recording and its language, and replies with the text: no timestamps, speakers or streaming.

pub mod document;
pub mod request;
pub mod translate;

pub use request::{Transcription, TranscriptionFormat};
pub use translate::{UploadForm, encode};
