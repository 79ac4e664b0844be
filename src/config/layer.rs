//! The table of keys, and the layers that give them values.
//!
//! One line a key: its field, type, path, default and the names that other programs use for it in
//! the environment. The reading of files and variables, `config show` and the tests all follow
//! from it. Only [`Layer::resolve`] knows defaults.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::keys::Keys;
use super::list::{Aliases, Hosts, Origins, Scopes};
use super::listen::Listen;
use super::routes::Routes;
use super::source::Source;
use super::text::{Auto, Collector, File, HeaderText, LoopbackHost, Optional, Proxy, Text};
use super::value::{Days, Format, Level, Setting, Size, Timeout};
use crate::auth::Place;
use crate::history::UsageStore;
use crate::protocol::chat::ReasoningField;
use crate::protocol::responses::Store;
use crate::protocol::tokens::TokenLimit;
use crate::upstream::{BodyForm, Compression, Transport};

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

/// A value as it was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'r> {
    /// In a variable, on the command line, or as a default.
    Text(&'r str),
    /// In the file.
    Toml(&'r DeValue<'r>),
}

/// A key of the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name in the file, dotted.
    pub(super) path: &'static str,
    /// Names in the environment beside our own, first one first.
    pub(super) variables: &'static [&'static str],
}

/// A key as `config show` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The key's name in the file, dotted.
    pub key: &'static str,
    /// Its value as TOML, secrets hidden.
    pub value: String,
    /// Where the value came from.
    pub source: Source,
}

impl<T: Setting> Entry<T> {
    fn read(raw: Raw<'_>, source: Source) -> Result<Self, String> {
        let value = match raw {
            Raw::Text(text) => T::from_text(text),
            Raw::Toml(value) => T::from_toml(value),
        };
        value.map(|value| Self { value, source })
    }

    fn default_of(text: &str) -> Self {
        Self::read(Raw::Text(text), Source::Default).expect("a default is valid: a test resolves them all")
    }
}

macro_rules! keys {
    ($( $field:ident: $kind:ty = $path:literal, $default:literal, [$($variable:literal),*]; )+) => {
        /// Every key, in the order in which it is shown.
        pub(super) const KEYS: &[Key] = &[$( Key { path: $path, variables: &[$($variable),*] } ),+];

        /// What one source says.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct Layer { $( pub(super) $field: Option<Entry<$kind>>, )+ }

        /// What holds in the end.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct Values { $( pub(super) $field: Entry<$kind>, )+ }

        impl Layer {
            /// This layer's values, and the lower one's where this is silent.
            pub(super) fn over(self, lower: Self) -> Self {
                Self { $( $field: self.$field.or(lower.$field), )+ }
            }

            /// Takes the value of a key; the complaint, when it does not fit. A path that is not in the table is ignored.
            pub(super) fn set(&mut self, path: &str, raw: Raw<'_>, source: Source) -> Result<(), String> {
                match path {
                    $( $path => self.$field = Some(Entry::read(raw, source)?), )+
                    _ => {}
                }
                Ok(())
            }

            /// The values, with defaults where no source spoke.
            pub(super) fn resolve(self) -> Values {
                Values { $( $field: self.$field.unwrap_or_else(|| Entry::default_of($default)), )+ }
            }
        }

        impl Values {
            /// Every key with its value and source.
            pub(super) fn show(&self) -> Vec<Shown> {
                vec![$( Shown {
                    key: $path,
                    value: self.$field.value.show(),
                    source: self.$field.source.clone(),
                } ),+]
            }
        }
    };
}

keys! {
    listen: Listen = "listen", "localhost:8787", [];
    keys: Keys = "keys", "", ["CODEX_PROXY_API_KEYS"];
    allowed_hosts: Hosts = "allowed_hosts", "", [];
    allowed_origins: Origins = "allowed_origins", "", [];
    allow_other_users: bool = "allow_other_users", "false", [];
    default_model: Optional = "default_model", "", [];
    model_aliases: Aliases = "model_aliases", "", [];
    routes: Routes = "routes", "", [];
    default_instructions: Text = "default_instructions", "You are a helpful assistant.", [];
    account: Optional = "account", "", [];
    upstream_url: Text = "upstream.url", "https://chatgpt.com/backend-api/codex",
        ["CHATGPT_API_BASE", "OPENAI_CHATGPT_API_BASE"];
    transport: Transport = "upstream.transport", "sse", [];
    upstream_body: BodyForm = "upstream.body", "auto", [];
    compression: Compression = "upstream.compression", "auto", [];
    client_version: Auto = "upstream.client_version", "auto", [];
    originator: HeaderText = "upstream.originator", "codex_proxy", ["CHATGPT_ORIGINATOR"];
    user_agent: Auto = "upstream.user_agent", "auto", ["CHATGPT_USER_AGENT"];
    user_agent_suffix: HeaderText = "upstream.user_agent_suffix", "", ["CHATGPT_USER_AGENT_SUFFIX"];
    connect_timeout: Timeout = "upstream.connect_timeout", "10s", [];
    first_event_timeout: Timeout = "upstream.first_event_timeout", "2m", [];
    idle_timeout: Timeout = "upstream.idle_timeout", "5m", [];
    max_retries: u32 = "upstream.max_retries", "2", [];
    retry_budget: Duration = "upstream.retry_budget", "30s", [];
    trust_host: bool = "upstream.trust_host", "false", [];
    ca_file: File = "upstream.ca_file", "", ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"];
    proxy: Proxy = "upstream.proxy", "", [];
    auth_url: Text = "auth.url", "https://auth.openai.com", [];
    client_id: Text = "auth.client_id", "app_EMoamEEZ73f0CkXaXp7hrann", [];
    redirect_host: LoopbackHost = "auth.redirect_host", "localhost", [];
    scopes: Scopes = "auth.scopes", "openid profile email offline_access", [];
    auth_store: Place = "auth.store", "file", [];
    credentials: File = "auth.credentials", "", [];
    token_limit: TokenLimit = "chat.token_limit", "ignore", [];
    reasoning_field: ReasoningField = "chat.reasoning_field", "reasoning_content", [];
    reasoning_replay: bool = "chat.reasoning_replay", "false", [];
    response_store: Store = "responses.store", "memory", [];
    done_marker: bool = "responses.done_marker", "false", [];
    usage_store: UsageStore = "usage.store", "disk", [];
    usage_keep: Days = "usage.keep", "90d", [];
    body_limit: Size = "limits.body", "64MiB", [];
    memory_limit: Size = "limits.memory", "512MiB", [];
    event_limit: Size = "limits.event", "32MiB", [];
    connections: NonZeroU32 = "limits.connections", "2048", [];
    concurrency: NonZeroU32 = "limits.concurrency", "256", [];
    queue: u32 = "limits.queue", "64", [];
    commit_after: Duration = "timing.commit_after", "5s", [];
    keepalive: Duration = "timing.keepalive", "15s", [];
    reader_stall: Timeout = "timing.reader_stall", "5m", [];
    body_read: Timeout = "timing.body_read", "30s", [];
    queue_wait: Duration = "timing.queue_wait", "20s", [];
    quota_probe: Duration = "timing.quota_probe", "5m", [];
    socket_lifetime: Timeout = "timing.socket_lifetime", "1h", [];
    drain: Duration = "timing.drain", "10s", [];
    header_timeout: Timeout = "timing.header", "30s", [];
    log_level: Level = "log.level", "info", [];
    log_format: Format = "log.format", "text", [];
    log_file: File = "log.file", "", [];
    log_file_size: Size = "log.file_size", "10MiB", [];
    log_files: NonZeroU32 = "log.files", "5", [];
    otlp_endpoint: Collector = "telemetry.otlp_endpoint", "", [];
}
