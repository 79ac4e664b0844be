//! Checks which modules import which: each layer uses only those below it, and modules of the same layer don't use each
//! other. `src/lib.rs` shows the layers.
//!
//! Every path in the sources that begins with `crate`, `super` or `self` is resolved to a module and compared with the
//! tables below. A second check lists every place that spawns a task or thread. Unit tests (from `#[cfg(test)]` on) are
//! exempt.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a panic fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The base layer, without `net`.
const BASE: &[&str] = &[
    "blocking",
    "budget",
    "clock",
    "command_hint",
    "content_encoding",
    "depth_limit",
    "endpoint",
    "error",
    "excerpt",
    "fs",
    "proxy",
    "retry_after",
    "secret",
    "socket_owner",
    "token_source",
];
/// The modules of the base layer that `protocol` may use. They do no I/O and don't read the clock, but formatting an
/// `AuthError` reads the command hint of the process.
const PURE_BASE: &[&str] = &["secret", "token_source", "error", "retry_after", "excerpt"];
/// Pure items of modules that read process state or the clock: `protocol` may use them, and gets their values from its
/// callers.
const PURE_ITEMS: &[&str] = &["command_hint::CommandHint", "clock::rfc3339", "clock::serialize_rfc3339"];
/// The modules that may use `net`, the HTTP client; `config` may use its settings.
const NET_USERS: &[&str] = &["auth", "upstream", "cli", "server::otlp"];
/// The client APIs, which don't use each other. The rest of `protocol` is shared.
const DIALECTS: &[&str] = &[
    "protocol::audio",
    "protocol::chat",
    "protocol::completions",
    "protocol::gemini",
    "protocol::images",
    "protocol::messages",
    "protocol::ollama",
    "protocol::responses",
];
/// The parts of `protocol` that the upstream client may use.
const UPSTREAM_PROTOCOL: &[&str] = &["protocol::codex", "protocol::sse", "protocol::models", "protocol::json"];
/// The modules that do I/O or keep state, and don't use each other.
const LEAVES: &[&str] = &["auth", "upstream", "demo", "history"];
/// The items that `config` may use: the settings types that each module defines.
const SETTINGS: &[&str] = &[
    "auth::BackendKind",
    "auth::Settings",
    "upstream::Settings",
    "upstream::AcceptEncoding",
    "upstream::Transport",
    "upstream::BodyForm",
    "upstream::Compression",
    "history::FileSettings",
    "history::Settings",
    "history::UsageStore",
    "net::Settings",
    "server::AccessSettings",
    "server::ClientKey",
    "server::Listen",
    "server::Settings",
    "protocol::chat::Options",
    "protocol::chat::ReasoningField",
    "protocol::models::Effort",
    "protocol::models::Route",
    "protocol::models::Rules",
    "protocol::models::RouteCondition",
    "protocol::responses::Options",
    "protocol::responses::Store",
    "protocol::tokens::TokenLimit",
];
/// Identifiers that `protocol` must not contain, and modules of `std`.
const IMPURE: &[&str] = &["async", "await", "axum", "hyper", "reqwest", "tokio", "tracing", "new_v4"];
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "process", "thread"];
/// The modules that may spawn tasks, threads or processes. Everything else is polled by its caller, so that dropping a
/// future ends its work.
const SPAWNERS: &[(&str, &str)] = &[
    ("auth::store::keyring", "a keyring call that hangs must not block the runtime or its end"),
    ("auth::tokens", "a refresh that was sent must be completed and stored, even if its caller is dropped"),
    ("cli::login::browser", "starts the browser, and reads the terminal, which can't be dropped like a future"),
    ("cli::logging::writer", "log lines are written by a thread, since writing blocks"),
    ("cli::notify", "a task that ends immediately shows that the runtime's workers run"),
    ("demo", "the simulated backend is a server of its own"),
    ("history::responses::disk", "one thread writes the database"),
    ("history::usage::write_queue", "one thread writes the database"),
    ("server::background", "a response in the background outlives its request; tracked until shutdown"),
    ("server::listen", "one task for each connection, tracked until shutdown"),
    ("server::websocket", "a WebSocket outlives the request that opened it; tracked until shutdown"),
    ("upstream::cassette::recorder", "one thread writes the recording"),
];

/// Whether `module` may use `target`; both are paths inside the crate.
fn is_allowed(module: &[String], target: &[String]) -> bool {
    let (from, to) = (area(module), area(target));
    let is_base = BASE.contains(&&*to);
    match from.as_str() {
        same if same == to => true,
        "" | "main" | "cli" => true,
        "config" => is_base || names_whole_module(target) || is_below(&target.join("::"), SETTINGS.iter().copied()),
        _ if to == "net" => is_below(&module.join("::"), NET_USERS.iter().copied()),
        "server" => is_base || LEAVES.contains(&&*to) || to.starts_with("protocol"),
        "auth" | "history" => is_base,
        "upstream" => is_base || UPSTREAM_PROTOCOL.contains(&&*to),
        "demo" => is_base || to == "protocol::codex",
        protocol if protocol.starts_with("protocol") => {
            PURE_BASE.contains(&&*to)
                || PURE_ITEMS.contains(&&*target.join("::"))
                || (to.starts_with("protocol") && !DIALECTS.contains(&&*to))
        }
        base => is_base && (base == "net" || BASE.contains(&base)),
    }
}

/// Whether `module` is one of `roots`, or inside one.
fn is_below<'r>(module: &str, mut roots: impl Iterator<Item = &'r str>) -> bool {
    roots.any(|root| module.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

/// `use crate::{auth, net}` in `config`: what is used through the module is checked by its own path.
fn names_whole_module(target: &[String]) -> bool {
    SETTINGS.iter().any(|name| name.rsplit_once("::").is_some_and(|(module, _)| module == target.join("::")))
}

/// The area of a path, such as `auth` or `protocol::chat`; empty for the root.
fn area(path: &[String]) -> String {
    match path {
        [first, second, ..] if first == "protocol" && second.starts_with(char::is_lowercase) => {
            format!("{first}::{second}")
        }
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

/// The tokens of a source file, without comments and literals, up to its unit tests.
fn tokens(source: &str) -> Vec<String> {
    let source = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let (mut tokens, mut rest) = (Vec::new(), source);
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[taken..];
    }
    tokens
}

/// The length of the string or character literal that `text` begins with.
fn literal(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r').filter(|raw| raw.starts_with(['"', '#'])) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let inner = raw[hashes..].strip_prefix('"')?;
        return Some(prefix + 1 + hashes + 1 + inner.find(&close)? + close.len());
    }
    let quote = body.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let mut escaped = false;
    for (index, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            // A quote that isn't closed after one character begins a lifetime.
            _ if c == quote => return Some(prefix + index + 1),
            _ if quote == '\'' && body[1..index].chars().count() >= 1 && !body.starts_with("'\\") => return None,
            _ => {}
        }
    }
    None
}

/// Every path inside the crate in the tokens of `module`.
fn paths(module: &[String], tokens: &[String]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        let begins = index == 0 || tokens[index - 1] != "::";
        if !begins || tokens.get(index + 1).is_none_or(|next| next != "::") {
            continue;
        }
        let base = match token.as_str() {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len().saturating_sub(1)].to_vec(),
            _ => continue,
        };
        follow(&base, &tokens[index + 2..], &mut found);
    }
    found.extend(through_imports(&found, tokens));
    found
}

/// Paths through an imported module: `auth::Store` after `use crate::auth`.
fn through_imports(imported: &BTreeSet<Vec<String>>, tokens: &[String]) -> Vec<Vec<String>> {
    let named = tokens.windows(4).filter(|four| four[0] != "::" && four[2] == "::");
    let through = named.filter_map(|four| {
        let module = imported.iter().find(|path| path.last() == Some(&four[1]))?;
        Some([module.as_slice(), &four[3..]].concat())
    });
    through.collect()
}

/// Follows a path, and each branch of a list in braces. Returns the number of tokens.
fn follow(base: &[String], tokens: &[String], found: &mut BTreeSet<Vec<String>>) -> usize {
    let mut path = base.to_vec();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        match token.as_str() {
            "{" => {
                index += 1;
                while tokens.get(index).is_some_and(|token| token != "}") {
                    index += if tokens[index] == "," { 1 } else { follow(&path, &tokens[index..], found).max(1) };
                }
                return index + 1;
            }
            "super" => drop(path.pop()),
            "self" => {}
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') || word == "*" => {
                path.push(word.to_owned());
            }
            _ => break,
        }
        index += 1;
        if tokens.get(index).is_none_or(|next| next != "::") {
            break;
        }
        index += 1;
    }
    found.insert(path);
    // `as` and the new name are part of the branch.
    if tokens.get(index).is_some_and(|token| token == "as") { index + 2 } else { index }
}

/// The violations of one source file.
fn violations(module: &[String], source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut violations: Vec<String> = paths(module, &tokens)
        .iter()
        .filter(|target| !is_allowed(module, target))
        .map(|target| format!("{} must not use {}", module.join("::"), target.join("::")))
        .collect();
    if module.first().is_some_and(|first| first == "protocol") {
        let impure = tokens.iter().filter(|token| IMPURE.contains(&token.as_str())).cloned();
        let is_impure_std =
            |three: &&[String]| three[0] == "std" && (three[2] == "{" || IMPURE_STD.contains(&&*three[2]));
        let reads_clock =
            |three: &&[String]| ["SystemTime", "Instant"].contains(&&*three[0]) && three[1..] == ["::", "now"];
        let standard = tokens.windows(3).filter(|three| is_impure_std(three) || reads_clock(three));
        let names: BTreeSet<String> = impure.chain(standard.map(<[String]>::concat)).collect();
        violations.extend(names.iter().map(|name| format!("{} is pure and must not use {name}", module.join("::"))));
    }
    let is_client = is_below(&module.join("::"), NET_USERS.iter().copied().chain(["net"]));
    if tokens.iter().any(|token| token == "reqwest") && !is_client {
        violations.push(format!("{} must use net instead of reqwest", module.join("::")));
    }
    if spawns(&tokens) && !SPAWNERS.iter().any(|(spawner, _)| *spawner == module.join("::")) {
        violations.push(format!("{} must not spawn: poll the work instead", module.join("::")));
    }
    violations
}

/// Whether a source names a function that spawns tasks or threads (of tokio, a `TaskTracker`, a `JoinSet` or the
/// standard library), calls `spawn` on a process, or builds a thread. `spawn_blocking` is allowed: its caller awaits
/// it.
fn spawns(tokens: &[String]) -> bool {
    const SPAWNS: &[&str] = &["spawn", "spawn_local", "spawn_on", "spawn_scoped", "spawn_unchecked", "JoinSet"];
    let is_builder = |three: &[String]| three[0] == "thread" && three[1] == "::" && three[2] == "Builder";
    tokens.iter().any(|token| SPAWNS.contains(&token.as_str())) || tokens.windows(3).any(is_builder)
}

/// Calls `check` with the path and text of every source file below `directory`.
fn for_each_source(directory: &Path, above: &[String], check: &mut impl FnMut(&[String], &str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut module = above.to_vec();
        if !["mod", "lib", "main"].contains(&&*name) {
            module.push(name.clone());
        }
        if path.is_dir() {
            for_each_source(&path, &module, check);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            check(&module, &fs::read_to_string(&path).unwrap());
        }
    }
}

fn sources() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn every_module_uses_only_what_its_layer_allows() {
    let mut found = Vec::new();
    for_each_source(&sources(), &[], &mut |module, source| found.extend(violations(module, source)));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_listed_spawner_spawns() {
    let mut unused: BTreeSet<&str> = SPAWNERS.iter().map(|(module, _)| *module).collect();
    for_each_source(&sources(), &[], &mut |module, source| {
        if spawns(&tokens(source)) {
            unused.remove(&*module.join("::"));
        }
    });
    assert!(unused.is_empty(), "remove from SPAWNERS: {unused:?}");
}

fn violation_count(module: &str, source: &str) -> usize {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    violations(&module, source).len()
}

#[test]
fn violations_are_found() {
    for (module, source) in [
        ("secret", "use crate::auth::Store;"),
        ("secret", "use crate::net::HttpClient;"),
        ("net", "fn f() { crate::config::load() }"),
        ("auth::store", "use crate::{clock::Clock, upstream::{self, Upstream}};"),
        ("auth::store", "use super::super::upstream::Upstream;"),
        ("upstream", "use crate::protocol::{codex, chat::ChatReply};"),
        ("upstream", "use crate::protocol::Plan;"),
        ("demo", "use crate::protocol::sse as blocks;"),
        ("demo", "use crate::net::HttpClient;"),
        ("server", "use crate::config::Config;"),
        ("server::models", "use crate::net::HttpClient;"),
        ("config", "use crate::auth::Store;"),
        ("config", "use crate::net::HttpClient;"),
        ("config", "use crate::{auth, net}; fn f() { auth::login() }"),
        ("config", "use crate::cli::Exit;"),
        ("config", "use crate::auth::*;"),
        ("protocol::chat", "use crate::protocol::messages::Reply;"),
        ("protocol::chat::reply", "use super::super::messages::Reply;"),
        ("protocol::upstream_input", "use crate::protocol::chat;"),
        ("protocol::chat", "async fn f() {}"),
        ("protocol::codex", "use std::fs;"),
        ("protocol::codex", "use std::{env, fs};"),
        ("protocol::codex", "#[cfg(test)]\nmod tests;\nmod write;\nuse std::fs;"),
        ("protocol::codex", "fn f() { SystemTime::now(); }"),
        ("protocol::chat", "use crate::clock::Clock;"),
        ("protocol::chat", "use crate::command_hint::command;"),
        ("protocol::chat", "use crate::command_hint::{self, CommandHint};"),
        ("server", "use reqwest::Client;"),
        ("server", "fn f() { tokio::spawn(async {}); }"),
        ("server", "use tokio::spawn; fn f() { spawn(async {}); }"),
        ("server", "fn f(tasks: &TaskTracker) { tasks.spawn(async {}); }"),
        ("server", "use tokio::task::JoinSet;"),
        ("history", "fn f() { std::thread::Builder::new(); }"),
    ] {
        assert!(violation_count(module, source) > 0, "{module}: {source}");
    }
}

#[test]
fn allowed_uses_are_accepted() {
    for (module, source) in [
        ("token_source", "use crate::secret::Secret;"),
        (
            "auth::store",
            "use super::credential::Credential; pub(in crate::auth) fn f<'a>(c: char) -> bool { c == '\"' }",
        ),
        ("auth::issuer", "use crate::net::HttpClient;"),
        ("upstream", "use crate::protocol::{codex, models::Catalogue}; // crate::auth"),
        ("server", "use crate::{auth, demo::Demo, protocol::chat};"),
        ("server", "fn f() { tokio::task::spawn_blocking(|| {}); } // tokio::spawn("),
        ("config::resolve", "use crate::{auth, net}; fn f() -> auth::Settings { \"crate::cli\"; r#\"crate::cli\"# }"),
        ("protocol::chat", "use crate::protocol::{Context, upstream_input::lift}; use std::time::Duration;"),
        ("protocol::chat", "use crate::command_hint::CommandHint;"),
        ("cli", "use crate::{auth::Store, config::Config, server::Server};"),
        ("auth", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::demo::Demo; }"),
    ] {
        assert_eq!(violation_count(module, source), 0, "{module}: {source}");
    }
}
