//! YAML: adds the settings as text, in blocks between marker lines.
//!
//! If the document is a list, new entries are added at its end. If it is a mapping, new keys are added at its end, and
//! new entries at the beginning of existing lists. The result is parsed again, and must contain exactly the old and the
//! new settings; so a form of YAML that the line-based edit doesn't understand is refused.

use saphyr::{LoadableYamlNode as _, Mapping, Yaml};

use super::{Refusal, unreadable, unsupported};

const BEGIN: &str = "# >>> codex-proxy (this block is written by `codex-proxy connect`)";
const BEGIN_MARK: &str = "# >>> codex-proxy";
const END: &str = "# <<< codex-proxy";
/// Keys that describe the whole file: an existing value is kept, even if it differs.
const FILE_KEYS: [&str; 3] = ["name", "version", "schema"];

/// A top-level key of the new settings, with its lines.
struct Section<'t> {
    key: &'t str,
    lines: Vec<&'t str>,
}

/// Returns the text of a new file.
pub(super) fn new_file(wanted: &str) -> String {
    block(wanted.lines(), "")
}

/// Returns the text with the settings added, replacing blocks that were added before.
pub(super) fn merge(text: &str, wanted: &str) -> Result<String, Refusal> {
    let base = without_ours(text);
    let (present, goal) = (read(&base)?, read(wanted)?.ok_or_else(unsupported)?);
    let merged = match (&present, &goal) {
        (None, _) => with_newline(&base) + &new_file(wanted),
        (Some(Yaml::Sequence(_)), Yaml::Sequence(_)) => {
            with_newline(&base) + &block(wanted.lines(), indent(base.lines()))
        }
        (Some(Yaml::Mapping(present)), Yaml::Mapping(goal)) => merge_into_mapping(&base, present, wanted, goal)?,
        _ => return Err(unsupported()),
    };
    let expected = merged_values(present, goal).ok_or_else(unsupported)?;
    if read(&merged)? == Some(expected) { Ok(merged) } else { Err(unsupported()) }
}

/// Parses the only document of a text; `None` if it contains only comments.
fn read(text: &str) -> Result<Option<Yaml<'_>>, Refusal> {
    let mut documents = Yaml::load_from_str(text).map_err(|error| unreadable("YAML", &error))?;
    if documents.len() > 1 {
        return Err(Refusal("it contains several documents".to_owned()));
    }
    Ok(documents.pop().filter(|document| !document.is_null()))
}

/// Adds the settings to a mapping without our blocks.
fn merge_into_mapping(base: &str, present: &Mapping<'_>, wanted: &str, goal: &Mapping<'_>) -> Result<String, Refusal> {
    let (mut text, mut rest) = (base.to_owned(), Vec::new());
    for section in sections(wanted) {
        let key = Yaml::value_from_str(section.key);
        match (present.get(&key), goal.get(&key)) {
            (None, _) => rest.extend(section.lines),
            (Some(_), _) if FILE_KEYS.contains(&section.key) => {}
            (Some(Yaml::Sequence(_)), Some(Yaml::Sequence(_))) => text = prepend_to_list(&text, &section)?,
            (present, goal) if present == goal => {}
            _ => return Err(conflict(base, section.key)),
        }
    }
    Ok(if rest.is_empty() { text } else { with_newline(&text) + &block(rest.into_iter(), "") })
}

/// Adds new entries before those of an existing list.
fn prepend_to_list(text: &str, section: &Section<'_>) -> Result<String, Refusal> {
    let line = line_of(text, section.key).ok_or_else(unsupported)?;
    let (before, after): (Vec<_>, Vec<_>) = text.split_inclusive('\n').enumerate().partition(|(at, _)| *at <= line);
    let join = |lines: Vec<(usize, &str)>| lines.into_iter().map(|(_, line)| line).collect::<String>();
    let after = join(after);
    let own = indent(section.lines.iter().copied());
    let entries = section.lines.iter().skip(1).map(|line| line.strip_prefix(own).unwrap_or(line));
    Ok(with_newline(&join(before)) + &block(entries, indent(after.lines())) + &after)
}

fn conflict(base: &str, key: &str) -> Refusal {
    let line = line_of(base, key).map(|line| format!(" in line {}", line + 1)).unwrap_or_default();
    Refusal(format!("it sets {key} already{line}; remove that first"))
}

/// Returns the old and the new values, in the order of the text.
fn merged_values<'y>(present: Option<Yaml<'y>>, goal: Yaml<'y>) -> Option<Yaml<'y>> {
    Some(match (present, goal) {
        (None, goal) => goal,
        (Some(Yaml::Sequence(mut present)), Yaml::Sequence(goal)) => {
            present.extend(goal);
            Yaml::Sequence(present)
        }
        (Some(Yaml::Mapping(mut present)), Yaml::Mapping(goal)) => {
            for (key, wanted) in goal {
                match (present.get_mut(&key), wanted) {
                    (None, wanted) => drop(present.insert(key, wanted)),
                    (Some(Yaml::Sequence(entries)), Yaml::Sequence(wanted)) => drop(entries.splice(0..0, wanted)),
                    (Some(_), _) => {}
                }
            }
            Yaml::Mapping(present)
        }
        _ => return None,
    })
}

/// Splits the new settings, a mapping in block style, into top-level keys.
fn sections(wanted: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for line in wanted.lines() {
        match (line.split_once(':'), sections.last_mut()) {
            (Some((key, _)), _) if !key.starts_with([' ', '-']) => sections.push(Section { key, lines: vec![line] }),
            (_, Some(section)) => section.lines.push(line),
            _ => {}
        }
    }
    sections
}

/// Returns the line of a top-level key, counted from 0.
fn line_of(text: &str, key: &str) -> Option<usize> {
    text.lines().position(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')))
}

/// Returns the indentation of the first entry of a list.
fn indent<'t>(mut lines: impl Iterator<Item = &'t str>) -> &'t str {
    let entry = lines.find(|line| line.trim_start().starts_with("- ")).unwrap_or_default();
    entry.split_once('-').map_or("", |(space, _)| space)
}

/// Returns the lines between marker lines, all with this indentation.
fn block<'t>(lines: impl Iterator<Item = &'t str>, indent: &str) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{indent}{line}\n") };
    let lines: String = lines.map(line).collect();
    format!("{indent}{BEGIN}\n{lines}{indent}{END}\n")
}

/// Returns the text without the blocks that [`merge`] added.
pub(super) fn without_ours(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut kept, mut at) = (String::new(), 0);
    while let Some(line) = lines.get(at) {
        let end = lines.get(at..).into_iter().flatten().position(|line| line.trim() == END);
        match end {
            Some(end) if line.trim_start().starts_with(BEGIN_MARK) => at += end + 1,
            _ => {
                kept.push_str(line);
                at += 1;
            }
        }
    }
    kept
}

/// Adds a newline at the end, if there is none.
fn with_newline(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, merge};

    const KEYS: &str = "base: \"http://127.0.0.1:1/v1\"\nmodel: \"m\"\n";
    const LIST: &str = "- id: \"a\"\n  size: 5\n- id: \"b\"\n";
    const NAMED: &str = "name: \"Mine\"\nmodels:\n  - name: \"a\"\n    roles:\n      - chat\n";

    fn merged(text: &str, wanted: &str) -> String {
        let merged = merge(text, wanted).unwrap();
        assert_eq!(merge(&merged, wanted).unwrap(), merged, "a second merge changes nothing");
        merged
    }

    #[test]
    fn keys_are_added_at_the_end_in_a_block() {
        let text = "# mine\ndark: true  # so\nread: [a, b]";
        assert_eq!(merged(text, KEYS), format!("{text}\n{BEGIN}\n{KEYS}{END}\n"));
        assert_eq!(merged("# nothing\n", KEYS), format!("# nothing\n{BEGIN}\n{KEYS}{END}\n"));
    }

    #[test]
    fn a_second_merge_replaces_the_block_only() {
        let first = merged("dark: true\n", KEYS);
        let second = merged(&first, "base: \"other\"\n");
        assert_eq!(second, format!("dark: true\n{BEGIN}\nbase: \"other\"\n{END}\n"));
    }

    #[test]
    fn a_conflicting_key_is_reported_with_its_line() {
        let refusal = merge("dark: true\nmodel: sonnet\n", KEYS).unwrap_err().to_string();
        assert!(refusal.contains("model already in line 2"), "{refusal}");
        assert_eq!(merged("model: m\n", KEYS).matches("model").count(), 1, "the same value is no conflict");
    }

    #[test]
    fn entries_are_added_at_the_end_of_a_list_with_its_indentation() {
        let text = "  - id: x\n  # more\n  - id: y\n";
        let merged = merged(text, LIST);
        assert!(
            merged.starts_with(text) && merged.contains("\n  - id: \"a\"\n    size: 5\n  - id: \"b\"\n"),
            "{merged}"
        );
    }

    #[test]
    fn entries_are_added_at_the_beginning_of_a_list_below_a_key() {
        for indent in ["", "  ", "    "] {
            let text = format!("name: Theirs\nmodels: # all\n{indent}- name: x\n{indent}  size: 1\nrules: [r]\n");
            let merged = merged(&text, NAMED);
            let block = format!("models: # all\n{indent}{BEGIN}\n{indent}- name: \"a\"\n{indent}  roles:\n");
            assert!(merged.contains(&block) && merged.starts_with("name: Theirs\n"), "{merged}");
            assert!(merged.ends_with(&format!("{indent}- name: x\n{indent}  size: 1\nrules: [r]\n")), "{merged}");
        }
        assert!(merged("rules: [r]\n", NAMED).ends_with(&format!("- chat\n{END}\n")));
    }

    #[test]
    fn unsupported_forms_of_yaml_are_refused() {
        for (text, wanted) in [
            ("models: [{name: x}]\n", NAMED),
            ("models: 5\n", NAMED),
            ("{dark: true}\n", KEYS),
            ("[{id: x}]\n", LIST),
            ("- id: x\n", KEYS),
            ("dark: true\n", LIST),
            ("a: 1\n---\nb: 2\n", KEYS),
            ("a: 1\n...\n", KEYS),
            ("a: [1\n", KEYS),
            ("a: |\n  text\n b", KEYS),
            ("\"models\":\n  - name: x\n", NAMED),
        ] {
            assert!(merge(text, wanted).is_err(), "{text}");
        }
    }
}
