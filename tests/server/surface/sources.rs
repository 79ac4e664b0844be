//! Every route and every request member in the sources is on the page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::table::{endpoints, sections};

/// A source that reads the members of requests.
struct Reader {
    file: &'static str,
    /// The object whose members the source reads; `None` for those of the whole request.
    object: Option<&'static str>,
    endpoints: &'static [&'static str],
    /// Values and members of objects that the source matches too.
    others: &'static [&'static str],
}

const READERS: &[Reader] = &[
    Reader {
        file: "chat/request.rs",
        object: None,
        endpoints: &["POST /v1/chat/completions"],
        others: &["auto", "concise"],
    },
    Reader { file: "responses/request.rs", object: None, endpoints: &["POST /v1/responses"], others: &["null"] },
    Reader { file: "completions/request.rs", object: None, endpoints: &["POST /v1/completions"], others: &["false"] },
    Reader { file: "messages/request.rs", object: None, endpoints: &["POST /v1/messages"], others: &[] },
    Reader {
        file: "ollama/request.rs",
        object: None,
        endpoints: &["POST /api/chat", "POST /api/generate"],
        others: &[],
    },
    Reader {
        file: "batches/request.rs",
        object: None,
        endpoints: &["POST /v1/batches"],
        others: &["anchor", "seconds"],
    },
    Reader { file: "responses/conversation.rs", object: None, endpoints: &["POST /v1/conversations"], others: &[] },
    Reader {
        file: "images/request.rs",
        object: None,
        endpoints: &["POST /v1/images/generations", "POST /v1/images/edits"],
        others: &[
            "auto", "b64_json", "default", "hd", "high", "jpeg", "low", "max", "medium", "png", "standard", "webp",
            "xhigh",
        ],
    },
    Reader {
        file: "gemini/request.rs",
        object: None,
        endpoints: &["POST /v1beta/models/{model}:generateContent"],
        others: &["priority", "standard", "unspecified"],
    },
    Reader {
        file: "gemini/generation.rs",
        object: Some("generationConfig"),
        endpoints: &["POST /v1beta/models/{model}:generateContent"],
        others: &["includeThoughts", "thinkingBudget", "thinkingLevel"],
    },
    Reader {
        file: "audio/request.rs",
        object: None,
        endpoints: &["POST /v1/audio/transcriptions"],
        others: &["diarized_json", "json", "srt", "text", "verbose_json", "vtt"],
    },
];
/// The source and the function that read the sampling parameters of Chat and Completions.
const SHARED: (&str, &str) = ("upstream_input/parameters/mod.rs", "fn is_sampling_changed");

#[test]
fn every_member_that_a_request_may_have_is_on_the_page() {
    let sections = sections();
    let mut missing = Vec::new();
    for Reader { file, object, endpoints, others } in READERS {
        let listed: BTreeSet<&str> = sections
            .iter()
            .filter(|section| endpoints.contains(&section.endpoint.as_str()))
            .flat_map(|section| section.rows.iter())
            .filter_map(|row| match (object, row.name.split_once('.')) {
                (Some(object), Some((of, member))) => (*object == of).then_some(member),
                (None, Some((object, _))) => Some(object),
                (None, None) => Some(row.name.as_str()),
                (Some(_), None) => None,
            })
            .collect();
        let mut read = matched(&source(&format!("src/protocol/{file}")));
        if matches!(*file, "chat/request.rs" | "completions/request.rs") {
            let (file, function) = SHARED;
            let text = source(&format!("src/protocol/{file}"));
            read.extend(matched(text.split(function).nth(1).unwrap().split("\n}").next().unwrap()));
        }
        assert!(read.len() > 1, "{file}: only {read:?}");
        let unlisted = read.iter().filter(|name| !listed.contains(name.as_str()) && !others.contains(&name.as_str()));
        missing.extend(unlisted.map(|name| format!("{}: {name}", endpoints.join(" or "))));
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn every_route_is_on_the_page() {
    let listed: BTreeSet<String> = endpoints().iter().map(|endpoint| shape(&endpoint.path)).collect();
    let mut missing = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = source(file.to_str().unwrap());
        if !text.contains(".route(") {
            continue;
        }
        let routes =
            literals(&text).into_iter().filter(|(literal, _)| literal.starts_with('/') && literal != "/{*rest}");
        for (route, _) in routes {
            let route = shape(&route);
            if !listed.contains(&route) {
                missing.push(format!("{}: {route}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// A path with `…` for the rest of it, and without the names of its parameters.
fn shape(path: &str) -> String {
    // The router matches methods of the Gemini API without the model in front of them.
    let path = path.replace("/models:", "/models/{model}:");
    let mut pieces = path.split('{');
    let start = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(start, |path, piece| {
        let (name, rest) = piece.split_once('}').unwrap();
        path + if name == "*rest" { "…" } else { "{}" } + rest
    })
}

/// A source without comments and unit tests.
fn source(path: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The names that are patterns of a `match`.
fn matched(source: &str) -> BTreeSet<String> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && text.starts_with(|first: char| first.is_ascii_lowercase())
    };
    let is_pattern = |rest: &str| ["|", "=>", "if ", ") =>"].iter().any(|next| rest.trim_start().starts_with(next));
    let patterns = literals(source).into_iter().filter(|(name, rest)| is_name(name) && is_pattern(rest));
    patterns.map(|(name, _)| name).collect()
}

/// The string literals without escapes, each with the text after it.
fn literals(source: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some((_, after)) = rest.split_once('"') {
        let Some((literal, next)) = after.split_once('"') else { break };
        found.push((literal.to_owned(), next));
        rest = next;
    }
    found
}
