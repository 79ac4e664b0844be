//! OpenAI's Audio API: transcription of an audio file.
//!
//! [`request`] reads the form of a client, [`translate`] writes the backend's, and [`document`] converts the reply. The
//! backend accepts an audio file and its language, and replies with the text: no timestamps, speakers or streaming.

pub mod document;
pub mod request;
pub mod translate;

pub use request::{Transcription, TranscriptionFormat};
pub use translate::{UploadForm, encode};
