//! Which model a request means: aliases, prefixes and suffixes, and what the catalogue knows.
//!
//! Names the backend may know are passed on unchanged, so that a new model works without a
//! release; the catalogue only adds what is known about a model (efforts, windows).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How hard the model thinks, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Normally.
    Medium,
    /// Hard.
    High,
    /// Very hard.
    Xhigh,
    /// As hard as it can.
    Max,
}

/// One model of the catalogue, as far as we read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The backend's name.
    pub slug: String,
    /// The name shown to people.
    pub display_name: String,
    /// Whether it is shown in lists.
    pub is_listed: bool,
    /// Position in lists, lowest first.
    pub priority: i64,
    /// Efforts it takes, lowest first; empty: not known.
    pub efforts: Vec<Effort>,
    /// The effort it uses when none is asked for.
    pub default_effort: Option<Effort>,
    /// Window in tokens.
    pub context_window: Option<u64>,
    /// Whether the fast tier can be asked for.
    pub has_fast_tier: bool,
    /// Kinds of input: `text`, `image`.
    pub input_modalities: Vec<String>,
}

/// The models of an account, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    models: Vec<Model>,
}

/// A catalogue that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the model catalogue can't be read: {0}")]
pub struct CatalogueError(String);

/// The owner's naming rules (`model_aliases`, `default_model`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A name that clients use, and the model (with suffixes, if wanted) that it means.
    pub aliases: BTreeMap<String, String>,
    /// What `default` and `claude-*` names mean; `None`: the catalogue's first.
    pub default_model: Option<String>,
}

/// Everything a dialect needs to choose a model. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Models {
    /// What the backend offers, as last heard.
    pub catalogue: Arc<Catalogue>,
    /// The owner's rules.
    pub rules: Arc<Rules>,
}

/// What a model name came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backend's name.
    pub slug: String,
    /// The effort in the name, if there was one.
    pub effort: Option<Effort>,
    /// Whether the name asked for the fast tier.
    pub is_fast: bool,
}

impl Catalogue {
    /// Reads the backend's answer to `GET /models`, leniently: every member but `slug` may be missing.
    ///
    /// # Errors
    /// When it is not JSON, or has no list of models.
    pub fn parse(_json: &[u8]) -> Result<Self, CatalogueError> {
        Err(CatalogueError("not built yet".to_owned()))
    }

    /// All models, best first, hidden ones included.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model of that name.
    #[must_use]
    pub fn find(&self, slug: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.slug == slug)
    }
}

impl Models {
    /// What `name` means: aliases, `openai/` and `codex/` prefixes, `-fast`, `-<effort>` and `(<effort>)` suffixes.
    #[must_use]
    pub fn resolve(&self, name: &str) -> Choice {
        Choice { slug: name.to_owned(), effort: None, is_fast: false }
    }

    /// The nearest effort that the model takes (ties to the lower); unchanged where nothing is known.
    #[must_use]
    pub fn clamp(&self, _slug: &str, effort: Effort) -> Effort {
        effort
    }
}
