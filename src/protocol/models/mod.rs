//! Resolves a client's model name to the backend's name of a model: aliases, routes, prefixes and suffixes.
//!
//! Unknown names are sent to the backend unchanged, so that a new model works without a release of this proxy;
//! `default` and unknown `claude-*` and `gemini-*` names become the default model. The catalogue adds what is known
//! about a model, such as its reasoning efforts.

mod catalogue;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use catalogue::{Catalogue, CatalogueError, Model};
pub use route::{RequestTraits, Route, RouteCondition};

/// Reasoning effort. The order is from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    /// No reasoning.
    None,
    /// The least reasoning.
    Minimal,
    /// Little reasoning.
    Low,
    /// The usual reasoning.
    Medium,
    /// Much reasoning.
    High,
    /// Very much reasoning.
    #[value(alias = "ultra")]
    Xhigh,
    /// As much reasoning as the model supports.
    Max,
}

/// The naming rules in the settings (`model_aliases`, `routes`, `default_model`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By the client's model name: the model, alias or name with suffixes that replaces it.
    pub aliases: BTreeMap<String, String>,
    /// Routes in order; the first match counts. Aliases are not matched.
    pub routes: Vec<Route>,
    /// The model for `default` and for `claude-*` and `gemini-*` names without a route. `None` means the first model of
    /// the catalogue. Small Claude and Gemini models become the first small model of the catalogue, if it has one.
    pub default_model: Option<String>,
}

/// The model catalogue and the naming rules. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Models {
    /// The latest catalogue of the backend.
    pub catalogue: Arc<Catalogue>,
    /// The rules in the settings.
    pub rules: Arc<Rules>,
}

/// A resolved model name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedModel {
    /// The backend's name of the model.
    pub slug: String,
    /// The effort of the route, else of the name.
    pub effort: Option<Effort>,
    /// Whether `effort` is that of a route, which takes precedence over the client's.
    pub is_effort_routed: bool,
    /// Whether the name requests the fast service tier, with the suffix `-fast`.
    pub is_fast: bool,
}

impl ResolvedModel {
    /// The effort of the route, else the one that the client requested, else that of the name.
    #[must_use]
    pub fn effort(&self, requested: Option<Effort>) -> Option<Effort> {
        if self.is_effort_routed { self.effort } else { requested.or(self.effort) }
    }
}

impl Effort {
    /// All efforts, lowest first.
    pub const ALL: [Self; 7] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// The effort with this name in the backend's API.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == name)
    }

    /// The effort with this name, including `ultra`, which the official client sends as `xhigh`.
    #[must_use]
    pub fn from_client(name: &str) -> Option<Self> {
        if name == "ultra" { Some(Self::Xhigh) } else { Self::parse(name) }
    }

    /// The name in the backend's API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// The meaning of a suffix of a model name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Effort(Effort),
    Fast,
}

impl Models {
    /// Resolves a name for a request without thinking and web search.
    #[must_use]
    pub fn resolve(&self, name: &str) -> ResolvedModel {
        self.resolve_for(name, RequestTraits::default())
    }

    /// Resolves a name: aliases and routes, the prefixes `openai/` and `codex/`, and the suffixes `-fast`, `-<effort>`
    /// and `(<effort>)`.
    ///
    /// A suffix in the client's name takes precedence over one in the target of an alias. Each alias is followed once,
    /// and only the client's name is routed, so that circular rules terminate.
    #[must_use]
    pub fn resolve_for(&self, name: &str, traits: RequestTraits) -> ResolvedModel {
        let slug = name.trim().to_owned();
        let mut model = ResolvedModel { slug, effort: None, is_effort_routed: false, is_fast: false };
        let mut followed = BTreeSet::new();
        let mut is_routed = false;
        loop {
            let stripped = self.strip(&mut model, &followed);
            let is_alias = self.rules.aliases.contains_key(&stripped);
            let route = self.rules.routes.iter().find(|route| route.matches(&stripped, traits));
            if let Some(route) = route.filter(|_| !is_alias && !is_routed && followed.is_empty()) {
                is_routed = true;
                model.is_effort_routed = route.effort.is_some();
                model.effort = route.effort.or(model.effort);
                route.model.trim().clone_into(&mut model.slug);
                continue;
            }
            let target = self.target(&stripped).filter(|_| followed.insert(stripped.clone()));
            let Some(target) = target else {
                model.slug = stripped;
                return model;
            };
            target.trim().clone_into(&mut model.slug);
        }
    }

    /// The nearest effort that the model supports, the lower one if two are equally near. Unchanged if the model's
    /// efforts are unknown.
    fn clamp(&self, slug: &str, effort: Effort) -> Effort {
        let known = self.catalogue.find(slug).map_or(&[][..], |model| &model.efforts);
        let distance = |candidate: Effort| (candidate as u8).abs_diff(effort as u8);
        known.iter().copied().min_by_key(|&candidate| (distance(candidate), candidate)).unwrap_or(effort)
    }

    /// Whether a model accepts `text.verbosity`; true for an unknown model. The backend rejects the member for other
    /// models.
    #[must_use]
    pub fn supports_verbosity(&self, slug: &str) -> bool {
        self.catalogue.find(slug).is_none_or(|model| model.supports_verbosity)
    }

    /// The effort to send for the wanted one: the nearest that the model supports, and `low` in place of `minimal` if
    /// the request has web search.
    #[must_use]
    pub fn fit(&self, slug: &str, wanted: Effort, traits: RequestTraits) -> Effort {
        // The backend rejects minimal effort together with web search.
        let is_too_little = wanted == Effort::Minimal && traits.searches;
        self.clamp(slug, if is_too_little { Effort::Low } else { wanted })
    }

    /// The listed model with the most similar name, for the error about an unknown model. `None` if the catalogue has
    /// the model, or no similar one.
    #[must_use]
    pub fn suggest(&self, slug: &str) -> Option<String> {
        const MIN_SIMILARITY: f64 = 0.8;
        if self.catalogue.find(slug).is_some() {
            return None;
        }
        // Some clients put the provider before the model.
        let wanted = slug.rsplit('/').next().unwrap_or(slug).to_lowercase();
        let rated = self.catalogue.models().iter().filter(|model| model.is_listed).map(|model| {
            let similarity = strsim::normalized_damerau_levenshtein(&wanted, &model.slug);
            (similarity.max(strsim::jaro_winkler(&wanted, &model.slug) - 0.1), model)
        });
        let (similarity, best) =
            rated.max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.priority.cmp(&one.1.priority)))?;
        (similarity >= MIN_SIMILARITY).then(|| best.slug.clone())
    }

    /// Returns `model.slug` without prefixes and suffixes, which are removed until the rest is an alias that was not
    /// followed, or in the catalogue. Adds to `model` what the suffixes request, unless an earlier name did; of each
    /// kind, one suffix per name is removed.
    fn strip(&self, model: &mut ResolvedModel, followed: &BTreeSet<String>) -> String {
        let mut rest = model.slug.as_str();
        let (mut effort, mut fast) = (None, None);
        while !self.is_known(rest, followed) {
            if let Some(bare) = strip_prefix(rest) {
                rest = bare;
                continue;
            }
            match strip_suffix(rest) {
                Some((bare, Suffix::Effort(word))) if effort.is_none() => (rest, effort) = (bare, Some(word)),
                Some((bare, Suffix::Fast)) if fast.is_none() => (rest, fast) = (bare, Some(true)),
                _ => break,
            }
        }
        let rest = rest.to_owned();
        model.effort = model.effort.or(effort);
        model.is_fast |= fast.is_some();
        rest
    }

    fn is_known(&self, name: &str, followed: &BTreeSet<String>) -> bool {
        let is_alias = self.rules.aliases.contains_key(name) && !followed.contains(name);
        is_alias || self.catalogue.find(name).is_some()
    }

    /// The name that replaces `name`: the target of an alias, or the model for `default`, `claude-*` and `gemini-*`.
    fn target(&self, name: &str) -> Option<&str> {
        if let Some(target) = self.rules.aliases.get(name) {
            return Some(target);
        }
        let has_default = name == "default" || ["claude-", "gemini-"].iter().any(|prefix| name.starts_with(prefix));
        if !has_default || self.catalogue.find(name).is_some() {
            return None;
        }
        let small = self.catalogue.first_small().filter(|_| name.contains("haiku") || name.contains("-lite"));
        let first = || self.catalogue.first_listed().map(|model| model.slug.as_str());
        small.map(|model| model.slug.as_str()).or(self.rules.default_model.as_deref()).or_else(first)
    }
}

fn strip_prefix(name: &str) -> Option<&str> {
    let bare = name.strip_prefix("openai/").or_else(|| name.strip_prefix("codex/"))?;
    (!bare.is_empty()).then_some(bare)
}

fn strip_suffix(name: &str) -> Option<(&str, Suffix)> {
    let in_brackets = name.strip_suffix(')').and_then(|open| open.rsplit_once('('));
    let (bare, word) = in_brackets.or_else(|| name.rsplit_once('-'))?;
    let suffix = match word.trim() {
        "fast" if in_brackets.is_none() => Suffix::Fast,
        word => Suffix::Effort(Effort::from_client(word)?),
    };
    let bare = bare.trim_end();
    (!bare.is_empty()).then_some((bare, suffix))
}

#[cfg(test)]
mod tests;
