//! Who may import whom: each floor knows only those below it, and leaves do not know each other.
//!
//! Every path of the sources that begins with `crate`, `super` or `self` is resolved to the module
//! it leads to and held against the table below. Unit tests (from `#[cfg(test)]` on) are free.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const FLOOR_0: &[&str] = &[
    "secret",
    "token_source",
    "blocking",
    "error",
    "clock",
    "fs",
    "net",
    "endpoint",
    "proxy",
    "socket_owner",
    "retry_after",
    "command_hint",
    "excerpt",
];
/// The client dialects: none of them knows another. The rest of the pure core is shared.
const DIALECTS: &[&str] =
    &["protocol::chat", "protocol::completions", "protocol::messages", "protocol::ollama", "protocol::responses"];
/// What the client of the backend may know of the pure core.
const UPSTREAM_WORDS: &[&str] = &["protocol::codex", "protocol::sse", "protocol::models", "protocol::json"];
const LEAVES: &[&str] = &["auth", "upstream", "demo", "history"];
/// What the settings may name: the types that each concern defines for them.
const SETTINGS: &[&str] = &[
    "auth::Place",
    "auth::Settings",
    "upstream::Settings",
    "upstream::Transport",
    "upstream::BodyForm",
    "upstream::Compression",
    "history::Settings",
    "history::UsageStore",
    "server::Settings",
    "server::ClientKey",
    "server::Doors",
    "server::Listen",
    "protocol::chat::Options",
    "protocol::models::Effort",
    "protocol::models::Route",
    "protocol::models::RouteCondition",
    "protocol::chat::ReasoningField",
    "protocol::responses::Options",
    "protocol::responses::Store",
    "protocol::models::Rules",
    "protocol::tokens::TokenLimit",
];
/// Words that have no place in the pure core.
const IMPURE: &[&str] = &["async", "await", "axum", "hyper", "reqwest", "tokio", "tracing", "new_v4"];
const IMPURE_STD: &[&str] = &["env", "fs", "io", "net", "process", "thread"];

/// Whether `module` may name `target`; both are paths inside the crate.
fn is_allowed(module: &[String], target: &[String]) -> bool {
    let (from, to) = (area(module), area(target));
    if from == to {
        return true;
    }
    let is_floor_0 = FLOOR_0.contains(&&*to);
    match from.as_str() {
        "" | "main" | "cli" => true,
        "config" => is_floor_0 || names_whole_module(target) || SETTINGS.contains(&&*target.join("::")),
        "server" => is_floor_0 || LEAVES.contains(&&*to) || to.starts_with("protocol"),
        "auth" | "history" => is_floor_0,
        "upstream" => is_floor_0 || UPSTREAM_WORDS.contains(&&*to),
        "demo" => is_floor_0 || to == "protocol::codex",
        protocol if protocol.starts_with("protocol") => {
            is_floor_0 || (to.starts_with("protocol") && !DIALECTS.contains(&&*to))
        }
        _ => FLOOR_0.contains(&&*from) && is_floor_0,
    }
}

/// `use crate::{auth, net}` in the settings: what is then named through it is checked by its type's name.
fn names_whole_module(target: &[String]) -> bool {
    SETTINGS.iter().any(|name| name.rsplit_once("::").is_some_and(|(module, _)| module == target.join("::")))
}

/// The part of the house that a path is in: `auth`, `protocol::chat`, … or nothing for the root.
fn area(path: &[String]) -> String {
    match path {
        [first, second, ..] if first == "protocol" && second.starts_with(char::is_lowercase) => {
            format!("{first}::{second}")
        }
        [first, ..] => first.clone(),
        [] => String::new(),
    }
}

/// The words and signs of a source, without comments and literals, up to its unit tests.
fn tokens(source: &str) -> Vec<String> {
    let source = source.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
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
            // A quote that is not closed after one character begins a lifetime.
            _ if c == quote => return Some(prefix + index + 1),
            _ if quote == '\'' && body[1..index].chars().count() >= 1 && !body.starts_with("'\\") => return None,
            _ => {}
        }
    }
    None
}

/// Every path inside the crate that the tokens of `module` name.
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

/// What is named through an imported module: `auth::Store` after `use crate::auth`.
fn through_imports(imported: &BTreeSet<Vec<String>>, tokens: &[String]) -> Vec<Vec<String>> {
    let named = tokens.windows(4).filter(|four| four[0] != "::" && four[2] == "::");
    let through = named.filter_map(|four| {
        let module = imported.iter().find(|path| path.last() == Some(&four[1]))?;
        Some([module.as_slice(), &four[3..]].concat())
    });
    through.collect()
}

/// Follows a path, and each branch of a list in braces; returns how many tokens it took.
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
            word if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => path.push(word.to_owned()),
            _ => break,
        }
        index += 1;
        if tokens.get(index).is_none_or(|next| next != "::") {
            break;
        }
        index += 1;
    }
    found.insert(path);
    // `as` and the new name belong to the branch.
    if tokens.get(index).is_some_and(|token| token == "as") { index + 2 } else { index }
}

/// What is wrong with one source file.
fn violations(module: &[String], source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut faults: Vec<String> = paths(module, &tokens)
        .iter()
        .filter(|target| !is_allowed(module, target))
        .map(|target| format!("{} must not name {}", module.join("::"), target.join("::")))
        .collect();
    if module.first().is_some_and(|first| first == "protocol") {
        let impure = tokens.iter().filter(|token| IMPURE.contains(&token.as_str())).cloned();
        let standard = tokens.windows(3).filter(|three| three[0] == "std" && IMPURE_STD.contains(&&*three[2]));
        let words: BTreeSet<String> = impure.chain(standard.map(<[String]>::concat)).collect();
        faults.extend(words.iter().map(|word| format!("{} is pure and must not use {word}", module.join("::"))));
    }
    faults
}

fn check_directory(directory: &Path, above: &[String], faults: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut module = above.to_vec();
        if !["mod", "lib", "main"].contains(&&*name) {
            module.push(name.clone());
        }
        if path.is_dir() {
            check_directory(&path, &module, faults);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            faults.extend(violations(&module, &fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn every_module_names_only_what_its_floor_allows() {
    let mut faults = Vec::new();
    check_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn faults(module: &str, source: &str) -> usize {
    let module: Vec<String> = module.split("::").map(str::to_owned).collect();
    violations(&module, source).len()
}

#[test]
fn the_checker_catches_what_is_not_allowed() {
    for (module, source) in [
        ("secret", "use crate::auth::Store;"),
        ("net", "fn f() { crate::config::load() }"),
        ("auth::store", "use crate::{clock::Clock, upstream::{self, Upstream}};"),
        ("auth::store", "use super::super::upstream::Upstream;"),
        ("upstream", "use crate::protocol::{codex, chat::ChatReply};"),
        ("upstream", "use crate::protocol::Plan;"),
        ("demo", "use crate::protocol::sse as blocks;"),
        ("server", "use crate::config::Config;"),
        ("config", "use crate::auth::Store;"),
        ("config", "use crate::{auth, net}; fn f() { auth::login() }"),
        ("config", "use crate::cli::Exit;"),
        ("protocol::chat", "use crate::protocol::messages::Reply;"),
        ("protocol::chat::reply", "use super::super::messages::Reply;"),
        ("protocol::upstream_input", "use crate::protocol::chat;"),
        ("protocol::chat", "async fn f() {}"),
        ("protocol::codex", "use std::fs;"),
    ] {
        assert!(faults(module, source) > 0, "{module}: {source}");
    }
}

#[test]
fn the_checker_lets_pass_what_is_allowed() {
    for (module, source) in [
        ("token_source", "use crate::secret::Secret;"),
        (
            "auth::store",
            "use super::credential::Credential; pub(in crate::auth) fn f<'a>(c: char) -> bool { c == '\"' }",
        ),
        ("upstream", "use crate::protocol::{codex, models::Catalogue}; // crate::auth"),
        ("server", "use crate::{auth, demo::Demo, protocol::chat};"),
        ("config::resolve", "use crate::{auth, net}; fn f() -> auth::Settings { \"crate::cli\"; r#\"crate::cli\"# }"),
        ("protocol::chat", "use crate::protocol::{Context, upstream_input::lift}; use std::time::Duration;"),
        ("cli", "use crate::{auth::Store, config::Config, server::Server};"),
        ("auth", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::demo::Demo; }"),
    ] {
        assert_eq!(faults(module, source), 0, "{module}: {source}");
    }
}
