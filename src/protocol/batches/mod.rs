//! The batches of OpenAI's API: requests for them, the object that describes one, and the lines of their files.

mod input;
mod object;
mod output;
mod request;

pub use input::{InputCheck, LineError, LineRequest};
pub use object::{BatchErrors, BatchObject, RequestCounts};
pub use output::{OutputResponse, response_line};
pub use request::{BatchRequest, ENDPOINTS};
