//! Which model a request means: aliases, prefixes and suffixes, and what the catalogue knows.
//!
//! Names the backend may know are passed on unchanged, so that a new model works without a
//! release; the catalogue only adds what is known about a model (efforts, windows).

mod catalogue;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use catalogue::{Catalogue, CatalogueError, Model};
pub use route::{RequestTraits, Route, RouteCondition};

/// How hard the model thinks, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
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
    #[value(alias = "ultra")]
    Xhigh,
    /// As hard as it can.
    Max,
}

/// The owner's naming rules (`model_aliases`, `routes`, `default_model`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// A name that clients use, and the model (with suffixes, if wanted) that it means.
    pub aliases: BTreeMap<String, String>,
    /// Patterns of names, the first that fits counts. A name that is an alias is not looked for here.
    pub routes: Vec<Route>,
    /// What `default` and unrouted `claude-*` names mean; `None`: the catalogue's first, and for the
    /// small Claude models its first small one.
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
pub struct ResolvedModel {
    /// The backend's name.
    pub slug: String,
    /// The effort in the name or of its route, if there was one.
    pub effort: Option<Effort>,
    /// Whether the effort is that of a route, and wins over what the client asks for.
    pub is_effort_ruled: bool,
    /// Whether the name asked for the fast tier.
    pub is_fast: bool,
}

impl ResolvedModel {
    /// The effort to ask for: the route's, else the client's, else that of the name.
    #[must_use]
    pub fn effort(&self, asked: Option<Effort>) -> Option<Effort> {
        if self.is_effort_ruled { self.effort } else { asked.or(self.effort) }
    }
}

impl Effort {
    /// All efforts that the backend has words for, lowest first.
    pub const ALL: [Self; 7] = [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// The effort of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == name)
    }

    /// The effort that a person means: `ultra` is a name that the official client sends as `xhigh`.
    #[must_use]
    pub fn asked(name: &str) -> Option<Self> {
        if name == "ultra" { Some(Self::Xhigh) } else { Self::parse(name) }
    }

    /// The name on the wire.
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

/// The two things a suffix can ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Effort(Effort),
    Fast,
}

impl Models {
    /// What `name` means in a request that is about nothing in particular.
    #[must_use]
    pub fn resolve(&self, name: &str) -> ResolvedModel {
        self.resolve_for(name, RequestTraits::default())
    }

    /// What `name` means: aliases and routes, `openai/` and `codex/` prefixes, `-fast`, `-<effort>`
    /// and `(<effort>)` suffixes.
    ///
    /// What the client wrote wins over what an alias adds. Each alias counts once, and one route at the start,
    /// so that rules that lead in a circle still end.
    #[must_use]
    pub fn resolve_for(&self, name: &str, occasion: RequestTraits) -> ResolvedModel {
        let slug = name.trim().to_owned();
        let mut choice = ResolvedModel { slug, effort: None, is_effort_ruled: false, is_fast: false };
        let mut followed = BTreeSet::new();
        let mut is_routed = false;
        loop {
            let stripped = self.strip(&mut choice, &followed);
            let is_alias = self.rules.aliases.contains_key(&stripped);
            let route = self.rules.routes.iter().find(|route| route.matches(&stripped, occasion));
            if let Some(route) = route.filter(|_| !is_alias && !is_routed && followed.is_empty()) {
                is_routed = true;
                choice.is_effort_ruled = route.effort.is_some();
                choice.effort = route.effort.or(choice.effort);
                route.model.trim().clone_into(&mut choice.slug);
                continue;
            }
            let target = self.target(&stripped).filter(|_| followed.insert(stripped.clone()));
            let Some(target) = target else {
                choice.slug = stripped;
                return choice;
            };
            target.trim().clone_into(&mut choice.slug);
        }
    }

    /// The nearest effort that the model takes (ties to the lower); unchanged where nothing is known.
    #[must_use]
    pub fn clamp(&self, slug: &str, effort: Effort) -> Effort {
        let known = self.catalogue.find(slug).map_or(&[][..], |model| &model.efforts);
        let distance = |candidate: Effort| (candidate as u8).abs_diff(effort as u8);
        known.iter().copied().min_by_key(|&candidate| (distance(candidate), candidate)).unwrap_or(effort)
    }

    /// Whether a model accepts a verbosity, as far as is known. The backend refuses a request with one for a
    /// model that doesn't.
    #[must_use]
    pub fn takes_verbosity(&self, slug: &str) -> bool {
        self.catalogue.find(slug).is_none_or(|model| model.takes_verbosity)
    }

    /// The effort that a request can have of the model in the place of the one that it wants.
    #[must_use]
    pub fn fit(&self, slug: &str, wanted: Effort, occasion: RequestTraits) -> Effort {
        // The backend refuses minimal thought together with a web search.
        let is_too_little = wanted == Effort::Minimal && occasion.searches;
        self.clamp(slug, if is_too_little { Effort::Low } else { wanted })
    }

    /// The catalogue's name that looks most like `slug`, for an error about a model that does not
    /// exist; `None` where the catalogue has it, or nothing comes near.
    #[must_use]
    pub fn suggest(&self, slug: &str) -> Option<String> {
        const LIKENESS: f64 = 0.8;
        if self.catalogue.find(slug).is_some() {
            return None;
        }
        // Other programs name a provider before the model.
        let wanted = slug.rsplit('/').next().unwrap_or(slug).to_lowercase();
        let rated = self.catalogue.models().iter().filter(|model| model.is_listed).map(|model| {
            let likeness = strsim::normalized_damerau_levenshtein(&wanted, &model.slug);
            (likeness.max(strsim::jaro_winkler(&wanted, &model.slug) - 0.1), model)
        });
        let (likeness, best) =
            rated.max_by(|one, other| one.0.total_cmp(&other.0).then(other.1.priority.cmp(&one.1.priority)))?;
        (likeness >= LIKENESS).then(|| best.slug.clone())
    }

    /// Takes prefixes and suffixes off, up to a name that has a meaning as it stands. A word that
    /// has been set before is not overwritten, but still taken off once for each name.
    fn strip(&self, choice: &mut ResolvedModel, followed: &BTreeSet<String>) -> String {
        let mut rest = choice.slug.as_str();
        let (mut effort, mut fast) = (None, None);
        while !self.stands(rest, followed) {
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
        choice.effort = choice.effort.or(effort);
        choice.is_fast |= fast.is_some();
        rest
    }

    fn stands(&self, name: &str, followed: &BTreeSet<String>) -> bool {
        let is_alias = self.rules.aliases.contains_key(name) && !followed.contains(name);
        is_alias || self.catalogue.find(name).is_some()
    }

    fn target(&self, name: &str) -> Option<&str> {
        if let Some(target) = self.rules.aliases.get(name) {
            return Some(target);
        }
        let is_open = name == "default" || name.starts_with("claude-");
        if !is_open || self.catalogue.find(name).is_some() {
            return None;
        }
        let small = self.catalogue.first_small().filter(|_| name.contains("haiku"));
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
        word => Suffix::Effort(Effort::asked(word)?),
    };
    let bare = bare.trim_end();
    (!bare.is_empty()).then_some((bare, suffix))
}

#[cfg(test)]
mod tests;
