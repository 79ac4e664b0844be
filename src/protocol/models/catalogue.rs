//! The backend's list of models, read leniently: a member we can't read is a member not known.

use serde_json::Value;

use super::Effort;

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
    /// Whether it takes a verbosity; a catalogue that does not say means yes.
    pub takes_verbosity: bool,
    /// Kinds of input: `text`, `image`.
    pub input_modalities: Vec<String>,
    /// Whether the official client sends it the lite form; `None`: not said.
    pub is_lite: Option<bool>,
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

impl Catalogue {
    /// Reads the backend's answer to `GET /models`, leniently: every member but `slug` may be missing.
    ///
    /// # Errors
    /// When it is not JSON, or has no list of models.
    pub fn parse(json: &[u8]) -> Result<Self, CatalogueError> {
        let answer: Value = serde_json::from_slice(json).map_err(|error| CatalogueError(error.to_string()))?;
        let Some(entries) = answer.get("models").and_then(Value::as_array) else {
            return Err(CatalogueError("it has no list 'models'".to_owned()));
        };
        let mut models: Vec<Model> = entries.iter().filter_map(Model::read).collect();
        models.sort_by_key(|model| model.priority);
        Ok(Self { models })
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

    /// The first small model that is shown in lists.
    #[must_use]
    pub fn first_small(&self) -> Option<&Model> {
        self.models.iter().find(|model| model.is_listed && model.slug.contains("mini"))
    }

    /// The first model that is shown in lists.
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
            takes_verbosity: entry.get("support_verbosity").and_then(Value::as_bool).unwrap_or(true),
            input_modalities: labels(entry, "input_modalities", "type").map(str::to_owned).collect(),
            is_lite: entry.get("use_responses_lite").and_then(Value::as_bool),
        })
    }
}

/// The texts of a list whose elements are texts, or objects that hold one in the member `key`.
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
        assert!(!model.takes_verbosity && catalogue.models()[1].takes_verbosity);
        assert_eq!(model.input_modalities, ["text", "image"]);
        assert_eq!(catalogue.first_listed().unwrap().slug, "late");
    }

    #[test]
    fn only_the_slug_is_needed_and_odd_members_are_passed_over() {
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
    fn what_is_no_catalogue_is_an_error() {
        for json in ["", "[]", "{}", r#"{"models":{}}"#, "<html>"] {
            assert!(Catalogue::parse(json.as_bytes()).is_err(), "{json}");
        }
    }
}
