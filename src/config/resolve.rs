//! Converts the merged values to the settings types of the modules, and checks the rules between settings.
//!
//! A rule is skipped if one of its settings already has an error, so that one mistake gives one message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client_keys::MIN_REMOTE_KEY_CHARACTERS;
use super::listen::ListenAddress;
use super::paths::Paths;
use super::schema::{ResolvedValues, Sourced};
use super::source::{ConfigErrors, Environment, ValueSource, malformed_proxies, mistyped_variables};
use super::text::{NonEmptyText, OptionalPath, OptionalText};
use super::value::Setting as _;
use super::{Config, LogFile, LogSettings};
use crate::endpoint::{Endpoint, EndpointError, Trust};
use crate::protocol::{chat, models, responses};
use crate::token_source::{AccountChoice, CredentialSource};
use crate::{auth, history, net, server, upstream};

/// Builds the configuration, and adds its errors to `errors`. `None` if `upstream.url` or `auth.url` is invalid. The
/// caller must not use a configuration if there are errors.
pub(super) fn resolve(
    values: ResolvedValues,
    mut paths: Paths,
    environment: &Environment,
    errors: &mut ConfigErrors,
) -> Option<Config> {
    let trust = if values.trust_host.value { Trust::AnyHttpsHost } else { Trust::KnownHosts };
    let url = endpoint(&values.upstream_url, "upstream.url", trust, errors);
    let issuer = endpoint(&values.auth_url, "auth.url", trust, errors);
    check_keys(&values, errors);
    check_memory(&values, errors);
    check_accounts(&values, errors);
    let event_limit_bytes = event_limit(&values, errors);
    if let Some(file) = absolute_path(&values.credentials) {
        paths.credentials = file;
    }
    let (url, issuer) = (url?, issuer?);
    let mut warnings = mistyped_variables(environment);
    warnings.extend([("upstream.url", &url), ("auth.url", &issuer)].into_iter().filter_map(trust_warning));
    if values.proxy.value.0.is_none() {
        warnings.extend(malformed_proxies(environment));
    }
    let user_agent = user_agent(&values);
    Some(Config {
        effective: values.effective(),
        server: server(&values),
        access: access(&values),
        short_keys: values.keys.value.short.clone(),
        history: history(&values),
        rules: rules(&values),
        log: log(&values),
        net: net::Settings {
            connect_timeout: values.connect_timeout.value.0,
            ca_file: absolute_path(&values.ca_file),
            proxy: values.proxy.value.0,
        },
        credentials: values.credentials_of.value,
        auth: auth::Settings {
            issuer,
            client_id: values.client_id.value.0,
            redirect_host: values.redirect_host.value.0,
            scopes: values.scopes.value.0,
            account: account(&values.account),
            store: values.auth_store.value,
            credentials: paths.credentials.clone(),
            originator: values.originator.value.0.clone(),
            user_agent: user_agent.clone(),
        },
        upstream: upstream::Settings {
            url,
            transport: values.transport.value,
            client_version: values.client_version.value.0,
            originator: values.originator.value.0,
            user_agent,
            body: values.upstream_body.value,
            compression: values.compression.value,
            accept_encoding: values.accept_encoding.value,
            first_event_timeout: values.first_event_timeout.value.0,
            idle_timeout: values.idle_timeout.value.0,
            max_retries: values.max_retries.value,
            retry_budget: values.retry_budget.value,
            quota_probe: values.quota_probe.value,
            commit_after: values.commit_after.value,
            event_limit_bytes,
            memory_limit_bytes: usize::try_from(values.memory_limit.value.0).unwrap_or(usize::MAX),
            image_model: values.image_model.value.0.clone(),
            image_timeout: values.image_timeout.value.0,
            catalogue_file: Some(paths.catalogue.clone()),
        },
        responses: responses::Options {
            default_instructions: values.default_instructions.value.0.clone(),
            store: values.response_store.value,
            done_marker: values.done_marker.value,
            ..responses::Options::default()
        },
        chat: chat::Options {
            default_instructions: values.default_instructions.value.0,
            reasoning: values.reasoning_field.value,
            token_limit: values.token_limit.value,
        },
        telemetry: values.otlp_endpoint.value.0,
        search_path: environment.get("PATH").map(ToOwned::to_owned),
        paths,
        warnings,
    })
}

fn server(values: &ResolvedValues) -> server::Settings {
    server::Settings {
        listen: listen(&values.listen),
        connections: values.connections.value.get() as usize,
        header_timeout: values.header_timeout.value.0,
        concurrency: values.concurrency.value.get() as usize,
        queue: values.queue.value as usize,
        queue_wait: values.queue_wait.value,
        reader_stall: values.reader_stall.value.0,
        body_limit_bytes: values.body_limit.value.0,
        body_read: values.body_read.value.0,
        keepalive: Some(values.keepalive.value).filter(|interval| !interval.is_zero()),
        socket_lifetime: values.socket_lifetime.value.0,
        drain: values.drain.value,
        background_concurrency: values.background_concurrency.value.get() as usize,
        image_model: values.image_model.value.0.clone(),
        image_timeout: values.image_timeout.value.0,
        audio_limit_bytes: values.audio_limit.value.0,
        audio_timeout: values.audio_timeout.value.0,
        batch_window_percent: values.batch_percent.value.0,
    }
}

fn access(values: &ResolvedValues) -> server::AccessSettings {
    server::AccessSettings {
        keys: values.keys.value.keys.clone(),
        allowed_hosts: values.allowed_hosts.value.0.clone(),
        allowed_origins: values.allowed_origins.value.0.clone(),
        allow_other_users: values.allow_other_users.value,
    }
}

fn history(values: &ResolvedValues) -> history::Settings {
    history::Settings {
        replays_reasoning: values.reasoning_replay.value,
        usage_store: values.usage_store.value,
        usage_keep_days: values.usage_keep.value.0,
        files: history::FileSettings {
            max_bytes: values.files_limit.value.0,
            lifetime: Duration::from_secs(u64::from(values.files_expire.value.0) * 24 * 60 * 60),
        },
    }
}

fn rules(values: &ResolvedValues) -> models::Rules {
    models::Rules {
        aliases: values.model_aliases.value.0.clone(),
        routes: values.routes.value.0.clone(),
        default_model: values.default_model.value.0.clone(),
    }
}

fn log(values: &ResolvedValues) -> LogSettings {
    LogSettings {
        level: values.log_level.value,
        format: values.log_format.value,
        file: absolute_path(&values.log_file).map(|path| LogFile {
            path,
            size_bytes: values.log_file_size.value.0,
            count: values.log_files.value.get(),
        }),
    }
}

/// Returns the chosen account, with a description of where the choice comes from.
fn account(entry: &Sourced<OptionalText>) -> Option<AccountChoice> {
    let account_id = entry.value.0.as_deref().map(str::trim).filter(|id| !id.is_empty())?.to_owned();
    let by = match &entry.source {
        ValueSource::Flag(name) => format!("the flag {name}"),
        source => format!("the setting account ({source})"),
    };
    Some(AccountChoice { account_id, by })
}

fn endpoint(entry: &Sourced<NonEmptyText>, key: &str, trust: Trust, errors: &mut ConfigErrors) -> Option<Endpoint> {
    let parsed = Endpoint::parse(&entry.value.0, trust);
    let error = |error: EndpointError| {
        if !errors.has_error(key) && !errors.has_error("upstream.trust_host") {
            errors.add(entry.source.clone(), key, error.to_string());
        }
    };
    parsed.map_err(error).ok()
}

/// Returns a warning if the host isn't one of those of ChatGPT.
fn trust_warning((key, endpoint): (&str, &Endpoint)) -> Option<String> {
    (!endpoint.is_known_host())
        .then(|| format!("{key}: tokens are sent to {}, because upstream.trust_host is set", endpoint.host()))
}

/// Checks that the client keys are long enough, and that there are some, if other machines can connect; and that an
/// empty environment variable doesn't remove the keys of the config file.
fn check_keys(values: &ResolvedValues, errors: &mut ConfigErrors) {
    if errors.has_error("keys") {
        return;
    }
    let (keys, listen) = (&values.keys, &values.listen);
    let is_empty = keys.value.keys.is_empty();
    if is_empty && matches!(keys.source, ValueSource::Variable(_)) {
        let message = "the variable contains no key and would disable the keys of the config file; \
                       unset it, or set it to a comma-separated list of keys";
        return errors.add(keys.source.clone(), "keys", message);
    }
    if listen.value.is_local() || errors.has_error("listen") {
        return;
    }
    let address = &listen.value;
    if is_empty {
        let message = format!(
            "other machines can connect to {address}, but no client key is set; \
             add [[keys]] with name and key to the config file (or set CODEX_PROXY_API_KEYS), or listen on localhost"
        );
        errors.add(listen.source.clone(), "listen", message);
    } else if !keys.value.short.is_empty() {
        let message = format!(
            "other machines can connect to {address}, but these keys have fewer than {MIN_REMOTE_KEY_CHARACTERS} \
             characters: {}; use longer ones (as from `openssl rand -hex 24`), or listen on localhost",
            keys.value.short.join(", ")
        );
        errors.add(keys.source.clone(), "keys", message);
    }
}

/// Checks that a request body of the maximum size fits into the memory for all requests.
fn check_memory(values: &ResolvedValues, errors: &mut ConfigErrors) {
    let (memory, body) = (&values.memory_limit, &values.body_limit);
    if memory.value.0 >= body.value.0 || errors.has_error("limits.memory") || errors.has_error("limits.body") {
        return;
    }
    // Blame the setting that the user changed, or `limits.memory` if both were changed.
    let (source, key) = match memory.source {
        ValueSource::Default => (&body.source, "limits.body"),
        _ => (&memory.source, "limits.memory"),
    };
    let (memory, body) = (memory.value.show(), body.value.show());
    errors.add(source.clone(), key, format!("limits.memory ({memory}) must be at least limits.body ({body})"));
}

const NO_ACCOUNT: &str = "upstream.credentials is \"client\", so each request uses the account of its client";

/// Checks that no account is selected if clients send their own logins.
fn check_accounts(values: &ResolvedValues, errors: &mut ConfigErrors) {
    if values.credentials_of.value == CredentialSource::Store {
        return;
    }
    // With a command that needs no login, a flag has its own meaning; `serve` refuses it.
    if account(&values.account).is_some() && !matches!(values.account.source, ValueSource::Flag(_)) {
        errors.add(values.account.source.clone(), "account", format!("{NO_ACCOUNT}; remove this setting"));
    }
    let bound = values.keys.value.keys.iter().filter(|key| key.account.is_some());
    let names: Vec<_> = bound.map(|key| key.name.as_str()).collect();
    if !names.is_empty() && !errors.has_error("keys") {
        let message = format!("{NO_ACCOUNT}; remove `account` from these keys: {}", names.join(", "));
        errors.add(values.keys.source.clone(), "keys", message);
    }
}

/// Returns the size limit of events in bytes.
fn event_limit(values: &ResolvedValues, errors: &mut ConfigErrors) -> usize {
    usize::try_from(values.event_limit.value.0).unwrap_or_else(|_| {
        errors.add(
            values.event_limit.source.clone(),
            "limits.event",
            "must be smaller than the address space of this machine",
        );
        usize::MAX
    })
}

fn listen(entry: &Sourced<ListenAddress>) -> server::Listen {
    match entry.value.sockets() {
        #[cfg(unix)]
        server::Listen::Unix(path) => server::Listen::Unix(resolve_path(&entry.source, &path)),
        ports @ server::Listen::Tcp(_) => ports,
    }
}

fn absolute_path(entry: &Sourced<OptionalPath>) -> Option<PathBuf> {
    entry.value.0.as_deref().map(|path| resolve_path(&entry.source, path))
}

/// Makes a path absolute. Paths in the config file are relative to its directory, others to the working directory.
fn resolve_path(source: &ValueSource, path: &Path) -> PathBuf {
    let path = match source {
        ValueSource::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
        _ => path.to_owned(),
    };
    std::path::absolute(&path).unwrap_or(path)
}

fn user_agent(values: &ResolvedValues) -> String {
    let default = || format!("codex-proxy/{}", env!("CARGO_PKG_VERSION"));
    let name = values.user_agent.value.0.clone().unwrap_or_else(default);
    match values.user_agent_suffix.value.0.as_str() {
        "" => name,
        suffix => format!("{name} {suffix}"),
    }
}
