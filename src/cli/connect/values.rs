//! The values that `connect` fills into the settings of a client program: the daemon's base URL, a client key, and
//! models.
//!
//! The address is that of the running daemon, or else that of the settings. Models come from the saved catalog.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::cli::context::{Context, accounts, env_token, load_saved_catalogue, upstream_settings};
use crate::cli::exit::Failure;
use crate::cli::run_file::RunningDaemon;
use crate::cli::serve::base_url;
use crate::command_hint::command;
use crate::config::{Config, Environment, client_key};
use crate::protocol::models::{Catalogue, Model};
use crate::secret::Secret;
use crate::server::Listen;
use crate::upstream::Upstream;

/// Printed in place of a required key that isn't available.
pub(super) const PLACEHOLDER: &str = "YOUR-CODEX-PROXY-KEY";
/// Maximum output tokens for client settings; the backend's limit isn't known, and few clients request more.
const OUTPUT_TOKENS: u64 = 32_000;
/// Context window in tokens, assumed for a model whose window isn't known: not larger than that of any known model.
const DEFAULT_WINDOW: u64 = 128_000;

/// All values that a recipe (the settings template of one client program) can use.
#[derive(Clone, Debug)]
pub(super) struct Values {
    /// Base URL of the OpenAI APIs, with `/v1`.
    pub(super) base_url: String,
    pub(super) key: Key,
    /// Listed models, in the order of the catalog, which starts with the preferred one; never empty.
    pub(super) models: Vec<ModelValues>,
    /// The model that a client uses unless the user chooses another: `default_model`, or else the first listed one.
    pub(super) model: ModelValues,
    /// The model for small tasks such as titles.
    pub(super) small: ModelValues,
}

/// The key that the client has to send.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// The daemon accepts any text.
    NotRequired,
    Known(Secret),
    /// One is required, but this command doesn't know it.
    Unavailable(WhyUnavailable),
}

/// Why a required key isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhyUnavailable {
    /// The settings hold only hashes.
    Hashed,
    /// The running daemon requires one, and the settings that this command read have none (the daemon was started with
    /// others).
    OnlyInDaemon,
}

impl fmt::Display for WhyUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hashed => "the settings contain only hashes of the client keys",
            Self::OnlyInDaemon => "the running daemon requires a client key that isn't in these settings",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelValues {
    pub(super) id: String,
    /// Name for people.
    pub(super) title: String,
    /// Context window in tokens.
    pub(super) window: u64,
    pub(super) accepts_images: bool,
}

/// The address of the daemon, for the settings of a client.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) base_url: String,
    /// For the user, if no daemon is running.
    pub(super) warning: Option<String>,
    /// Whether the running daemon requires a client key; `false` if none runs.
    pub(super) requires_key: bool,
}

impl Address {
    /// Returns the address of the running daemon, or else that of the settings.
    pub(super) async fn find(config: &Config, context: &Context) -> Result<Self, Failure> {
        if let Some((running, health)) = RunningDaemon::find_with_health(&config.paths.run_file, &context.http).await {
            return match running.socket {
                Some(socket) => Err(on_socket(&socket)),
                None => Ok(Self { base_url: running.base_url, warning: None, requires_key: health.requires_key }),
            };
        }
        let addresses = match &config.server.listen {
            Listen::Tcp(addresses) => addresses,
            #[cfg(unix)]
            Listen::Unix(path) => return Err(on_socket(path)),
        };
        if addresses.iter().any(|address| address.port() == 0) {
            let message = "The daemon isn't running, and its port is chosen when it starts. Start it first";
            return Err(Failure::Other(format!("{message}: `{}`", command("serve"))));
        }
        let warning = format!(
            "the daemon isn't running; the address is that of the settings. Start the daemon with `{}`.",
            command("serve")
        );
        Ok(Self { base_url: base_url(addresses), warning: Some(warning), requires_key: false })
    }
}

fn on_socket(path: &Path) -> Failure {
    let path = path.display();
    Failure::Other(format!(
        "The daemon listens on the Unix socket {path}, but clients need a port. Set listen to host:port."
    ))
}

impl Values {
    /// Collects the values. `key_name` is the client's id: the client key of that name is preferred. Makes no request.
    pub(super) async fn gather(
        config: &Config,
        context: &Context,
        environment: &Environment,
        key_name: &str,
        address: Address,
    ) -> Self {
        let env_token = env_token(environment);
        let tokens = accounts(context, config, env_token.clone());
        let upstream = Upstream::new(upstream_settings(config), context.http.clone(), Arc::new(tokens));
        load_saved_catalogue(&upstream, context, config, env_token.as_ref()).await;
        let key = if !config.access.keys.is_empty() {
            let known = client_key(config, environment, key_name);
            known.map_or(Key::Unavailable(WhyUnavailable::Hashed), Key::Known)
        } else if address.requires_key {
            Key::Unavailable(WhyUnavailable::OnlyInDaemon)
        } else {
            Key::NotRequired
        };
        Self::new(address.base_url, key, &upstream.catalogue(), config.rules.default_model.as_deref())
    }

    fn new(base_url: String, key: Key, catalogue: &Catalogue, default_model: Option<&str>) -> Self {
        let models: Vec<_> = catalogue.models().iter().filter(|model| model.is_listed).map(ModelValues::of).collect();
        let named = default_model.map(|id| match catalogue.find(id) {
            Some(model) => ModelValues::of(model),
            None => ModelValues::named(id),
        });
        let model = named.or_else(|| models.first().cloned()).unwrap_or_else(|| ModelValues::named("default"));
        let small = catalogue.first_small().map_or_else(|| model.clone(), ModelValues::of);
        let models = if models.is_empty() { vec![model.clone()] } else { models };
        Self { base_url, key, models, model, small }
    }

    /// Returns the same values with a placeholder for the key, to find out whether a template uses the key.
    pub(super) fn without_key(&self) -> Self {
        Self { key: Key::Unavailable(WhyUnavailable::Hashed), ..self.clone() }
    }

    /// Returns the text that replaces a name in a template, or `None` for an unknown name.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let root_url = || self.base_url.strip_suffix("/v1").unwrap_or(&self.base_url).to_owned();
        Some(match name {
            "base_url" => self.base_url.clone(),
            "root_url" => root_url(),
            "host" => root_url().trim_start_matches("http://").to_owned(),
            // Containers reach the host by this name.
            "container_url" => self.base_url.replace("127.0.0.1", "host.docker.internal"),
            "key" => self.key.text().to_owned(),
            "model" => self.model.id.clone(),
            "title" => self.model.title.clone(),
            "window" => self.model.window.to_string(),
            "images" => self.model.accepts_images.to_string(),
            "small_model" => self.small.id.clone(),
            "output" => OUTPUT_TOKENS.to_string(),
            _ => return None,
        })
    }

    #[cfg(test)]
    pub(super) fn sample() -> Self {
        let json = br#"{"models":[{"slug":"gpt-a","display_name":"GPT A","context_window":272000,"priority":1,
            "input_modalities":["text","image"]},{"slug":"gpt-b-mini","priority":2},
            {"slug":"hidden","visibility":"hide"}]}"#;
        let catalogue = Catalogue::parse(json).expect("a catalogue");
        Self::new("http://127.0.0.1:8787/v1".to_owned(), Key::NotRequired, &catalogue, None)
    }
}

impl Key {
    pub(super) fn is_required(&self) -> bool {
        !matches!(self, Self::NotRequired)
    }

    fn text(&self) -> &str {
        match self {
            Self::NotRequired => "anything",
            Self::Known(key) => key.expose(),
            Self::Unavailable(_) => PLACEHOLDER,
        }
    }
}

impl ModelValues {
    fn of(model: &Model) -> Self {
        Self {
            id: model.slug.clone(),
            title: model.display_name.clone(),
            window: model.context_window.unwrap_or(DEFAULT_WINDOW),
            accepts_images: model.input_modalities.iter().any(|kind| kind == "image"),
        }
    }

    /// Returns the values of a model that isn't in the catalog.
    fn named(id: &str) -> Self {
        Self { id: id.to_owned(), title: id.to_owned(), window: DEFAULT_WINDOW, accepts_images: true }
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, Key, Values};

    #[test]
    fn the_first_model_is_the_default_and_a_mini_model_the_small_one() {
        let values = Values::sample();
        assert_eq!((values.model.id.as_str(), values.small.id.as_str()), ("gpt-a", "gpt-b-mini"));
        assert_eq!(values.models.len(), 2, "the model with visibility hide isn't listed");
        assert_eq!(values.get("root_url").as_deref(), Some("http://127.0.0.1:8787"));
    }

    #[test]
    fn default_model_is_used_even_if_it_is_unknown() {
        let of = |catalogue: &Catalogue, id| {
            let values = Values::new(String::new(), Key::NotRequired, catalogue, id);
            (values.model.id, values.models.len())
        };
        let known = Catalogue::parse(br#"{"models":[{"slug":"a"},{"slug":"b"}]}"#).unwrap();
        assert_eq!(of(&known, Some("b")), ("b".to_owned(), 2));
        assert_eq!(of(&known, Some("new")), ("new".to_owned(), 2));
        assert_eq!(of(&Catalogue::default(), None), ("default".to_owned(), 1));
    }
}
