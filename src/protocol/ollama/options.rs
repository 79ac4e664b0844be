//! `options`: how a model is to be run, and how its answer is to be chosen.
//!
//! Two of them are held here, stop sequences and the limit of the answer. Those that are about one's
//! own machine have no meaning with a backend; the rest could have changed the answer and is named.

use crate::error::ProxyError;
use crate::protocol::Ignored;
use crate::protocol::json::path::Field;
use crate::protocol::reply::stop;
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::limit;

/// The limit of the answer, in tokens.
const LIMIT: &str = "num_predict";

/// About the machine that a model runs on, and its memory.
const OF_THE_MACHINE: [&str; 13] = [
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "num_batch",
    "num_ctx",
    "num_gpu",
    "num_keep",
    "num_thread",
    "numa",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// What of them is held.
#[derive(Clone, Debug, Default)]
pub(super) struct Sampling {
    pub(super) stop: Vec<String>,
    limit: Option<f64>,
}

impl Sampling {
    /// Reads the object; what is ignored is noted by name.
    pub(super) fn read(options: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = options.object()?;
        let mut sampling = Self::default();
        for (name, _) in members.members() {
            let Some(field) = options.member(&members, name) else { continue };
            match &**name {
                "stop" => sampling.stop = stop::read(&field)?,
                LIMIT => {
                    // Below zero there is no limit, or only that of the window.
                    sampling.limit = Some(field.number()?).filter(|limit| *limit >= 0.0);
                    if sampling.limit.is_some() {
                        ignored.note(name);
                    }
                }
                "temperature" | "top_p" if !field.differs_from(1.0)? => {}
                "frequency_penalty" | "presence_penalty" if !field.differs_from(0.0)? => {}
                name if OF_THE_MACHINE.contains(&name) => {}
                name => ignored.note(name),
            }
        }
        Ok(sampling)
    }

    /// Whether this is the name of the limit, under which it is noted where it is ignored.
    pub(super) fn is_limit(name: &str) -> bool {
        name == LIMIT
    }

    /// The limit to enforce.
    pub(super) fn limit(&self, policy: TokenLimit) -> Result<Option<u64>, ProxyError> {
        limit::settle(&format!("options.{LIMIT}"), self.limit, policy)
    }
}
