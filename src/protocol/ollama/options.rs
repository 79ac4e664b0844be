//! Reads `options`, the model parameters of an Ollama request.
//!
//! The proxy enforces stop sequences, and the token limit if the settings say so. Options about the machine that runs
//! the model have no meaning for the backend and are dropped without a warning. Others are reported as ignored, unless
//! they have the backend's default value.

use crate::error::ProxyError;
use crate::protocol::Ignored;
use crate::protocol::json::path::Field;
use crate::protocol::tokens::TokenLimit;
use crate::protocol::upstream_input::parameters;

/// The name of the limit on output tokens.
const TOKEN_LIMIT: &str = "num_predict";

/// Options about the machine that runs the model.
const MACHINE_OPTIONS: [&str; 13] = [
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

/// The options that the proxy enforces.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelOptions {
    pub(super) stop: Vec<String>,
    /// Never negative.
    token_limit: Option<f64>,
}

impl ModelOptions {
    /// Reads `options`. Notes the ignored ones by name.
    pub(super) fn read(options: &Field<'_, '_>, ignored: &mut Ignored) -> Result<Self, ProxyError> {
        let members = options.object()?;
        let mut read = Self::default();
        for (name, _) in members.members() {
            let Some(field) = options.member(&members, name) else { continue };
            match &**name {
                "stop" => read.stop = parameters::stop(&field)?,
                TOKEN_LIMIT => {
                    // Negative numbers mean no limit, or only that of the context window.
                    read.token_limit = Some(field.number()?).filter(|limit| *limit >= 0.0);
                    if read.token_limit.is_some() {
                        ignored.note(name);
                    }
                }
                "temperature" | "top_p" if !field.differs_from(1.0)? => {}
                "frequency_penalty" | "presence_penalty" if !field.differs_from(0.0)? => {}
                name if MACHINE_OPTIONS.contains(&name) => {}
                name => ignored.note(name),
            }
        }
        Ok(read)
    }

    /// Returns the limit to enforce, in tokens, and removes an enforced limit from `ignored`.
    pub(super) fn token_limit(&self, policy: TokenLimit, ignored: &mut Ignored) -> Result<Option<u64>, ProxyError> {
        let limit = parameters::enforced_limit(&format!("options.{TOKEN_LIMIT}"), self.token_limit, policy)?;
        if policy == TokenLimit::Enforce {
            ignored.retain(|member| member != TOKEN_LIMIT);
        }
        Ok(limit)
    }
}
