//! The table of settings, and the values that each source gives them.
//!
//! Each line of the table defines one setting: field, type, name in the config file, default, and other environment
//! variables that it is also read from. The parsers for the file and the environment, `config show` and the tests are
//! derived from it. Defaults apply only in [`PartialValues::resolve`].

use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::client_keys::ClientKeys;
use super::list::{Aliases, Hosts, Origins, Scopes};
use super::listen::ListenAddress;
use super::routes::Routes;
use super::source::ValueSource;
use super::text::{
    HeaderText, HeaderTextOrAuto, LoopbackHost, NonEmptyText, OptionalPath, OptionalText, OtlpEndpoint, ProxyAddress,
};
use super::value::{ByteCount, Days, LogFormat, LogLevel, Percent, Setting, Timeout};
use crate::auth::BackendKind;
use crate::history::UsageStore;
use crate::protocol::chat::ReasoningField;
use crate::protocol::responses::Store;
use crate::protocol::tokens::TokenLimit;
use crate::token_source::CredentialSource;
use crate::upstream::{AcceptEncoding, BodyForm, Compression, Transport};

/// A value and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sourced<T> {
    pub(super) value: T,
    pub(super) source: ValueSource,
}

/// A value that hasn't been parsed yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unparsed<'r> {
    /// From an environment variable, the command line, or the defaults.
    Text(&'r str),
    /// From the config file.
    Toml(&'r DeValue<'r>),
}

/// The names of a setting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// The name in the config file, as in `upstream.url`.
    pub(super) path: &'static str,
    /// Environment variables to read if the one named after the setting (`CODEX_PROXY_UPSTREAM_URL`) isn't set, in
    /// order of precedence. Most are those of other programs.
    pub(super) variables: &'static [&'static str],
}

/// A setting with the value in effect, as `config show` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The name in the config file, as in `upstream.url`.
    pub key: &'static str,
    /// The value as TOML, without secrets. For keys, only their names.
    pub value: String,
    /// Where the value comes from.
    pub source: ValueSource,
}

impl<T: Setting> Sourced<T> {
    fn read(raw: Unparsed<'_>, source: ValueSource) -> Result<Self, String> {
        let value = match raw {
            Unparsed::Text(text) => T::from_text(text),
            Unparsed::Toml(value) => T::from_toml(value),
        };
        value.map(|value| Self { value, source })
    }

    fn default_of(text: &str) -> Self {
        Self::read(Unparsed::Text(text), ValueSource::Default).expect("defaults are valid: a test resolves them all")
    }
}

macro_rules! keys {
    ($( $field:ident: $type:ty = $path:literal, $default:literal, [$($variable:literal),*]; )+) => {
        /// All settings, in the order in which `config show` prints them.
        pub(super) const KEYS: &[Key] = &[$( Key { path: $path, variables: &[$($variable),*] } ),+];

        /// The values from one source, or from several merged by precedence.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub(super) struct PartialValues { $( pub(super) $field: Option<Sourced<$type>>, )+ }

        /// The values in effect.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct ResolvedValues { $( pub(super) $field: Sourced<$type>, )+ }

        impl PartialValues {
            /// Merges two sources; `self` takes precedence.
            pub(super) fn over(self, lower: Self) -> Self {
                Self { $( $field: self.$field.or(lower.$field), )+ }
            }

            /// Parses and sets one value. The error is a message for the user. Unknown names are ignored.
            pub(super) fn set(&mut self, path: &str, raw: Unparsed<'_>, source: ValueSource) -> Result<(), String> {
                match path {
                    $( $path => self.$field = Some(Sourced::read(raw, source)?), )+
                    _ => {}
                }
                Ok(())
            }

            /// Fills in the defaults.
            pub(super) fn resolve(self) -> ResolvedValues {
                ResolvedValues { $( $field: self.$field.unwrap_or_else(|| Sourced::default_of($default)), )+ }
            }
        }

        impl ResolvedValues {
            pub(super) fn effective(&self) -> Vec<EffectiveSetting> {
                vec![$( EffectiveSetting {
                    key: $path,
                    value: self.$field.value.show(),
                    source: self.$field.source.clone(),
                } ),+]
            }
        }
    };
}

keys! {
    listen: ListenAddress = "listen", "localhost:8787", [];
    keys: ClientKeys = "keys", "", ["CODEX_PROXY_API_KEYS"];
    allowed_hosts: Hosts = "allowed_hosts", "", [];
    allowed_origins: Origins = "allowed_origins", "", [];
    allow_other_users: bool = "allow_other_users", "false", [];
    default_model: OptionalText = "default_model", "", [];
    model_aliases: Aliases = "model_aliases", "", [];
    routes: Routes = "routes", "", [];
    default_instructions: NonEmptyText = "default_instructions", "You are a helpful assistant.", [];
    account: OptionalText = "account", "", [];
    upstream_url: NonEmptyText = "upstream.url", "https://chatgpt.com/backend-api/codex",
        ["CHATGPT_API_BASE", "OPENAI_CHATGPT_API_BASE"];
    credentials_of: CredentialSource = "upstream.credentials", "store", [];
    transport: Transport = "upstream.transport", "sse", [];
    upstream_body: BodyForm = "upstream.body", "auto", [];
    compression: Compression = "upstream.compression", "auto", [];
    accept_encoding: AcceptEncoding = "upstream.accept_encoding", "auto", [];
    client_version: HeaderTextOrAuto = "upstream.client_version", "auto", [];
    originator: HeaderText = "upstream.originator", "codex_proxy", ["CHATGPT_ORIGINATOR"];
    user_agent: HeaderTextOrAuto = "upstream.user_agent", "auto", ["CHATGPT_USER_AGENT"];
    user_agent_suffix: HeaderText = "upstream.user_agent_suffix", "", ["CHATGPT_USER_AGENT_SUFFIX"];
    connect_timeout: Timeout = "upstream.connect_timeout", "10s", [];
    first_event_timeout: Timeout = "upstream.first_event_timeout", "2m", [];
    idle_timeout: Timeout = "upstream.idle_timeout", "5m", [];
    max_retries: u32 = "upstream.max_retries", "2", [];
    retry_budget: Duration = "upstream.retry_budget", "30s", [];
    trust_host: bool = "upstream.trust_host", "false", [];
    ca_file: OptionalPath = "upstream.ca_file", "", ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"];
    proxy: ProxyAddress = "upstream.proxy", "", [];
    auth_url: NonEmptyText = "auth.url", "https://auth.openai.com", [];
    client_id: NonEmptyText = "auth.client_id", "app_EMoamEEZ73f0CkXaXp7hrann", [];
    redirect_host: LoopbackHost = "auth.redirect_host", "localhost", [];
    scopes: Scopes = "auth.scopes", "openid profile email offline_access", [];
    auth_store: BackendKind = "auth.store", "file", [];
    credentials: OptionalPath = "auth.credentials", "", [];
    token_limit: TokenLimit = "chat.token_limit", "ignore", [];
    reasoning_field: ReasoningField = "chat.reasoning_field", "reasoning_content", [];
    reasoning_replay: bool = "chat.reasoning_replay", "false", [];
    response_store: Store = "responses.store", "memory", [];
    background_concurrency: NonZeroU32 = "responses.background_concurrency", "4", [];
    done_marker: bool = "responses.done_marker", "false", [];
    image_model: NonEmptyText = "images.model", "gpt-image-2", [];
    image_timeout: Timeout = "images.timeout", "5m", [];
    audio_limit: ByteCount = "audio.max_bytes", "25MiB", [];
    audio_timeout: Timeout = "audio.timeout", "2m", [];
    files_limit: ByteCount = "files.max_bytes", "256MiB", [];
    files_expire: Days = "files.expires", "30d", [];
    batch_percent: Percent = "batch.window_percent", "50", [];
    usage_store: UsageStore = "usage.store", "disk", [];
    usage_keep: Days = "usage.keep", "90d", [];
    body_limit: ByteCount = "limits.body", "64MiB", [];
    memory_limit: ByteCount = "limits.memory", "512MiB", [];
    event_limit: ByteCount = "limits.event", "32MiB", [];
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
    log_level: LogLevel = "log.level", "info", [];
    log_format: LogFormat = "log.format", "text", [];
    log_file: OptionalPath = "log.file", "", [];
    log_file_size: ByteCount = "log.file_size", "10MiB", [];
    log_files: NonZeroU32 = "log.files", "5", [];
    otlp_endpoint: OtlpEndpoint = "telemetry.otlp_endpoint", "", [];
}
