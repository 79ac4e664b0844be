//! The files of OpenAI's API: the object that describes one, the fields of an upload, and files as input of requests.

pub mod inputs;
mod media_type;
mod object;
mod upload;

pub use media_type::{by_content, by_encoding, by_name};
pub use object::{DeletedFile, FileObject};
pub(in crate::protocol) use upload::lifetime;
pub use upload::{MAX_FILE_NAME_BYTES, UploadFields, UploadOptions};
