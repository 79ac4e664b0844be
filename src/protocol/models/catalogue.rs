//! The backend's model catalogue: the response to `GET /models`. It is read leniently: an unreadable member counts as
//! absent, and an entry without a name is left out.

use serde_json::Value;

use super::Effort;

/// A model in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The backend's name of the model.
    pub slug: String,
    /// The name for display.
    pub display_name: String,
    /// Whether clients see the model in model lists.
    pub is_listed: bool,
    /// The rank in model lists: the lowest is first. The maximum if the catalogue doesn't say.
    pub priority: i64,
    /// The supported reasoning efforts, lowest first; empty if unknown.
    pub efforts: Vec<Effort>,
    /// The reasoning effort of requests without one.
    pub default_effort: Option<Effort>,
    /// The context window in tokens.
    pub context_window: Option<u64>,
    /// Whether the model has the fast service tier.
    pub has_fast_tier: bool,
    /// Whether the model accepts `text.verbosity`; true if the catalogue doesn't say.
    pub supports_verbosity: bool,
    /// The supported inputs, such as `text` and `image`.
    pub input_modalities: Vec<String>,
    /// Whether the official client uses the lite body format for this model; `None` if the catalogue doesn't say.
    pub is_lite: Option<bool>,
}

/// The models of an account, by priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    models: Vec<Model>,
}

/// The error for an unreadable catalogue.
#[derive(Debug, thiserror::Error)]
#[error("the model catalogue can't be read: {0}")]
pub struct CatalogueError(String);

impl Catalogue {
    /// Parses the response to `GET /models`. Every member of a model except `slug` is optional.
    ///
    /// # Errors
    /// If the text is not JSON or has no array `models`.
    pub fn parse(json: &[u8]) -> Result<Self, CatalogueError> {
        let response: Value = serde_json::from_slice(json).map_err(|error| CatalogueError(error.to_string()))?;
        let Some(entries) = response.get("models").and_then(Value::as_array) else {
            return Err(CatalogueError("it has no array 'models'".to_owned()));
        };
        let mut models: Vec<Model> = entries.iter().filter_map(Model::read).collect();
        models.sort_by_key(|model| model.priority);
        Ok(Self { models })
    }

    /// All models by priority, including those that are not listed.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model with exactly this name.
    #[must_use]
    pub fn find(&self, slug: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.slug == slug)
    }

    /// The first listed model with `mini` in its name.
    #[must_use]
    pub fn first_small(&self) -> Option<&Model> {
        self.models.iter().find(|model| model.is_listed && model.slug.contains("mini"))
    }

    /// The first listed model.
    #[must_use]
    pub fn first_listed(&self) -> Option<&Model> {
        self.models.iter().find(|model| model.is_listed)
    }
}

impl Model {
    fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str);
        let slug = text("slug").filter(|slug| !slug.is_empty())?;
        let mut efforts: Vec<Effort> =
            labels(entry, "supported_reasoning_levels", "effort").filter_map(Effort::parse).collect();
        efforts.sort_unstable();
        efforts.dedup();
        let is_fast = |tier: &str| matches!(tier, "priority" | "fast");
        Some(Self {
            slug: slug.to_owned(),
            display_name: text("display_name").unwrap_or(slug).to_owned(),
            is_listed: text("visibility").is_none_or(|visibility| visibility == "list"),
            priority: entry.get("priority").and_then(Value::as_i64).unwrap_or(i64::MAX),
            efforts,
            default_effort: text("default_reasoning_level").and_then(Effort::parse),
            context_window: entry.get("context_window").and_then(Value::as_u64),
            has_fast_tier: labels(entry, "service_tiers", "id")
                .chain(labels(entry, "additional_speed_tiers", "id"))
                .any(is_fast),
            supports_verbosity: entry.get("support_verbosity").and_then(Value::as_bool).unwrap_or(true),
            input_modalities: labels(entry, "input_modalities", "type").map(str::to_owned).collect(),
            is_lite: entry.get("use_responses_lite").and_then(Value::as_bool),
        })
    }
}

/// The elements of an array of strings, or of objects with a string member `key`.
fn labels<'v>(entry: &'v Value, list: &str, key: &'v str) -> impl Iterator<Item = &'v str> {
    let elements = entry.get(list).and_then(Value::as_array).into_iter().flatten();
    elements.filter_map(move |element| element.as_str().or_else(|| element.get(key)?.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, Effort};

    #[test]
    fn a_full_entry_is_read() {
        let json = r#"{"models":[
            {"slug":"late","priority":7,"visibility":"list"},
            {"slug":"m","display_name":"M","visibility":"hide","priority":1,"context_window":272000,
             "supported_reasoning_levels":[{"effort":"high","description":"x"},{"effort":"low"},{"effort":"ultra"}],
             "default_reasoning_level":"low","service_tiers":[{"id":"priority","name":"Fast"}],
             "input_modalities":["text","image"],"use_responses_lite":true,"support_verbosity":false}]}"#;
        let catalogue = Catalogue::parse(json.as_bytes()).unwrap();
        let model = &catalogue.models()[0];
        assert_eq!((model.slug.as_str(), model.display_name.as_str(), model.is_listed), ("m", "M", false));
        assert_eq!(model.efforts, [Effort::Low, Effort::High]);
        assert_eq!((model.default_effort, model.context_window), (Some(Effort::Low), Some(272_000)));
        assert_eq!((model.has_fast_tier, model.is_lite), (true, Some(true)));
        assert!(!model.supports_verbosity && catalogue.models()[1].supports_verbosity);
        assert_eq!(model.input_modalities, ["text", "image"]);
        assert_eq!(catalogue.first_listed().unwrap().slug, "late");
    }

    #[test]
    fn only_the_slug_is_required_and_unreadable_members_are_skipped() {
        let json = r#"{"models":[5,{"slug":""},{"display_name":"x"},
            {"slug":"a","priority":"high","supported_reasoning_levels":"all","context_window":null,
             "additional_speed_tiers":["fast"],"supported_reasoning_levels":["max",3,{"effort":1}]},{"slug":"b","priority":-1}]}"#;
        let catalogue = Catalogue::parse(json.as_bytes()).unwrap();
        let slugs: Vec<_> = catalogue.models().iter().map(|model| model.slug.as_str()).collect();
        assert_eq!(slugs, ["b", "a"]);
        let model = catalogue.find("a").unwrap();
        assert!(model.is_listed && model.has_fast_tier);
        assert_eq!(model.efforts, [Effort::Max]);
    }

    #[test]
    fn anything_but_a_catalogue_is_an_error() {
        for json in ["", "[]", "{}", r#"{"models":{}}"#, "<html>"] {
            assert!(Catalogue::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
