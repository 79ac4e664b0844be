//! From single values to what each concern is given, and the rules that hold between keys.
//!
//! A rule is not applied where one of its keys is at fault already: one slip, one complaint.

use std::path::{Path, PathBuf};

use super::keys::LONG_CHARACTERS;
use super::layer::{Entry, Values};
use super::listen::Listen;
use super::paths::Paths;
use super::source::{Environment, Faults, Source, malformed_proxies, mistyped_variables};
use super::text::{File, Optional, Text};
use super::value::Setting as _;
use super::{Config, Log, LogFile};
use crate::endpoint::{Endpoint, EndpointError, Trust};
use crate::protocol::{chat, models, responses};
use crate::token_source::Choice;
use crate::{auth, history, net, server, upstream};

/// Builds the settings of every concern; `None` when an address is at fault.
pub(super) fn resolve(
    values: Values,
    mut paths: Paths,
    environment: &Environment,
    faults: &mut Faults,
) -> Option<Config> {
    let trust = if values.trust_host.value { Trust::AnyHttpsHost } else { Trust::KnownHosts };
    let url = endpoint(&values.upstream_url, "upstream.url", trust, faults);
    let authority = endpoint(&values.auth_url, "auth.url", trust, faults);
    check_keys(&values, faults);
    check_memory(&values, faults);
    let event_limit_bytes = event_limit(&values, faults);
    if let Some(file) = anchored(&values.credentials) {
        paths.credentials = file;
    }
    let (url, authority) = (url?, authority?);
    let mut warnings = mistyped_variables(environment);
    warnings.extend([("upstream.url", &url), ("auth.url", &authority)].into_iter().filter_map(trusted));
    if values.proxy.value.0.is_none() {
        warnings.extend(malformed_proxies(environment));
    }
    let user_agent = user_agent(&values);
    Some(Config {
        shown: values.show(),
        server: server(&values),
        access: access(&values),
        short_keys: values.keys.value.short.clone(),
        history: history(&values),
        rules: rules(&values),
        log: log(&values),
        net: net::Settings {
            connect_timeout: values.connect_timeout.value.0,
            ca_file: anchored(&values.ca_file),
            proxy: values.proxy.value.0,
        },
        auth: auth::Settings {
            authority,
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
            first_event_timeout: values.first_event_timeout.value.0,
            idle_timeout: values.idle_timeout.value.0,
            max_retries: values.max_retries.value,
            retry_budget: values.retry_budget.value,
            quota_probe: values.quota_probe.value,
            commit_after: values.commit_after.value,
            event_limit_bytes,
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

/// How the daemon listens and holds its limits.
fn server(values: &Values) -> server::Settings {
    server::Settings {
        listen: listen(&values.listen),
        connections: values.connections.value.get() as usize,
        header_timeout: values.header_timeout.value.0,
        concurrency: values.concurrency.value.get() as usize,
        queue: values.queue.value as usize,
        queue_wait: values.queue_wait.value,
        reader_stall: values.reader_stall.value.0,
        body_limit_bytes: values.body_limit.value.0,
        memory_limit_bytes: usize::try_from(values.memory_limit.value.0).unwrap_or(usize::MAX),
        body_read: values.body_read.value.0,
        keepalive: Some(values.keepalive.value).filter(|pause| !pause.is_zero()),
        socket_lifetime: values.socket_lifetime.value.0,
        drain: values.drain.value,
    }
}

/// Who may come in.
fn access(values: &Values) -> server::AccessSettings {
    server::AccessSettings {
        keys: values.keys.value.keys.clone(),
        allowed_hosts: values.allowed_hosts.value.0.clone(),
        allowed_origins: values.allowed_origins.value.0.clone(),
        allow_other_users: values.allow_other_users.value,
    }
}

/// What is kept of answers and their cost.
fn history(values: &Values) -> history::Settings {
    history::Settings {
        replays_reasoning: values.reasoning_replay.value,
        usage_store: values.usage_store.value,
        usage_keep_days: values.usage_keep.value.0,
    }
}

/// What the names of models mean.
fn rules(values: &Values) -> models::Rules {
    models::Rules {
        aliases: values.model_aliases.value.0.clone(),
        routes: values.routes.value.0.clone(),
        default_model: values.default_model.value.0.clone(),
    }
}

/// Where the log goes.
fn log(values: &Values) -> Log {
    Log {
        level: values.log_level.value,
        format: values.log_format.value,
        file: anchored(&values.log_file).map(|path| LogFile {
            path,
            size_bytes: values.log_file_size.value.0,
            count: values.log_files.value.get(),
        }),
    }
}

fn account(entry: &Entry<Optional>) -> Option<Choice> {
    let account_id = entry.value.0.as_deref().map(str::trim).filter(|id| !id.is_empty())?.to_owned();
    let by = match &entry.source {
        Source::Flag(name) => format!("the flag {name}"),
        source => format!("the setting account ({source})"),
    };
    Some(Choice { account_id, by })
}

fn endpoint(entry: &Entry<Text>, key: &str, trust: Trust, faults: &mut Faults) -> Option<Endpoint> {
    let parsed = Endpoint::parse(&entry.value.0, trust);
    let fault = |error: EndpointError| {
        if !faults.concern(key) && !faults.concern("upstream.trust_host") {
            faults.add(entry.source.clone(), key, error.to_string());
        }
    };
    parsed.map_err(fault).ok()
}

fn trusted((key, endpoint): (&str, &Endpoint)) -> Option<String> {
    (!endpoint.is_known_host())
        .then(|| format!("{key}: tokens go to {}, as upstream.trust_host allows", endpoint.host()))
}

/// Checks the client keys. A program that reaches the daemon and sends one can spend the subscription.
fn check_keys(values: &Values, faults: &mut Faults) {
    if faults.concern("keys") {
        return;
    }
    let (keys, listen) = (&values.keys, &values.listen);
    let is_empty = keys.value.keys.is_empty();
    if is_empty && matches!(keys.source, Source::Variable(_)) {
        let message = "the variable holds no key, and would turn off the keys of the config file; \
                       unset it, or set it to keys, comma separated";
        return faults.add(keys.source.clone(), "keys", message);
    }
    if listen.value.is_local() || faults.concern("listen") {
        return;
    }
    let listen_at = &listen.value;
    if is_empty {
        let message = format!(
            "{listen_at} can be reached from other machines, and no client key is set; \
             add [[keys]] with name and key to the config file (or set CODEX_PROXY_API_KEYS), or listen on localhost"
        );
        faults.add(listen.source.clone(), "listen", message);
    } else if !keys.value.short.is_empty() {
        let message = format!(
            "{listen_at} can be reached from other machines, and these keys have fewer than {LONG_CHARACTERS} \
             characters: {}; use longer ones (`openssl rand -hex 24` makes one), or listen on localhost",
            keys.value.short.join(", ")
        );
        faults.add(keys.source.clone(), "keys", message);
    }
}

/// A body of the largest size has to fit into the memory for all of them.
fn check_memory(values: &Values, faults: &mut Faults) {
    let (memory, body) = (&values.memory_limit, &values.body_limit);
    if memory.value.0 >= body.value.0 || faults.concern("limits.memory") || faults.concern("limits.body") {
        return;
    }
    // The one that was set is at fault; of two, the memory.
    let (source, key) = match memory.source {
        Source::Default => (&body.source, "limits.body"),
        _ => (&memory.source, "limits.memory"),
    };
    let (memory, body) = (memory.value.show(), body.value.show());
    faults.add(source.clone(), key, format!("limits.memory ({memory}) must be at least limits.body ({body})"));
}

fn event_limit(values: &Values, faults: &mut Faults) -> usize {
    usize::try_from(values.event_limit.value.0).unwrap_or_else(|_| {
        faults.add(values.event_limit.source.clone(), "limits.event", "more than this machine can address");
        usize::MAX
    })
}

fn listen(entry: &Entry<Listen>) -> server::Listen {
    match entry.value.sockets() {
        #[cfg(unix)]
        server::Listen::Unix(path) => server::Listen::Unix(beside(&entry.source, &path)),
        ports @ server::Listen::Tcp(_) => ports,
    }
}

fn anchored(entry: &Entry<File>) -> Option<PathBuf> {
    entry.value.0.as_deref().map(|path| beside(&entry.source, path))
}

/// A path of the file is meant relative to the file, any other one to the working directory.
fn beside(source: &Source, path: &Path) -> PathBuf {
    let beside = match source {
        Source::File { path: file, .. } => file.parent().unwrap_or(Path::new("")).join(path),
        _ => path.to_owned(),
    };
    std::path::absolute(&beside).unwrap_or(beside)
}

fn user_agent(values: &Values) -> String {
    let own = || format!("codex-proxy/{}", env!("CARGO_PKG_VERSION"));
    let name = values.user_agent.value.0.clone().unwrap_or_else(own);
    match values.user_agent_suffix.value.0.as_str() {
        "" => name,
        suffix => format!("{name} {suffix}"),
    }
}
