//! JSON, with comments and trailing commas. Text around the changed members is kept.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstObjectProp, CstRootNode};
use serde_json::Value;

use super::{OURS, Refusal, contains_settings, unreadable, unsupported};

/// Returns the text with the settings added; the same text if it has them already.
pub(super) fn merge(text: &str, wanted: &str) -> Result<String, Refusal> {
    let (mark, body) = split_mark(text);
    let (document, wanted) = (parse(body)?, parse(wanted)?);
    let goal = value(&wanted)?;
    if contains_settings(&value(&document)?, &goal) {
        return Ok(text.to_owned());
    }
    let (object, wanted) = (object(&document)?, object(&wanted)?);
    put(&object, &wanted)?;
    let merged = document.to_string();
    if contains_settings(&value(&parse(&merged)?)?, &goal) { Ok(format!("{mark}{merged}")) } else { Err(unsupported()) }
}

/// Removes the settings as far as they still have their values, and restores the values that they had in `original`.
pub(super) fn remove(text: &str, settings: &str, original: &str) -> Result<String, Refusal> {
    let (mark, body) = split_mark(text);
    let (document, settings, original) = (parse(body)?, parse(settings)?, parse(split_mark(original).1)?);
    take(&object(&document)?, &object(&settings)?, original.object_value().as_ref())?;
    Ok(format!("{mark}{document}"))
}

/// Removes the settings from an object. `original` is the object before the merge.
fn take(object: &CstObject, settings: &CstObject, original: Option<&CstObject>) -> Result<(), Refusal> {
    for setting in settings.properties() {
        let name = setting.decoded_name().ok_or_else(unsupported)?;
        let Some(present) = object.get(&name) else { continue };
        let earlier = original.and_then(|original| original.get(&name));
        match (present.object_value(), setting.object_value()) {
            (Some(inner), Some(setting)) if name != OURS => {
                let earlier_object = earlier.as_ref().and_then(CstObjectProp::object_value);
                take(&inner, &setting, earlier_object.as_ref())?;
                if inner.properties().is_empty() && earlier.is_none() {
                    present.remove();
                }
            }
            _ if name == OURS || plain(&present) == plain(&setting) => match earlier {
                Some(earlier) => present.set_value(input(&earlier.value().ok_or_else(unsupported)?)?),
                None => present.remove(),
            },
            _ => {}
        }
    }
    Ok(())
}

/// Splits off a byte order mark, which some editors write.
fn split_mark(text: &str) -> (&str, &str) {
    text.strip_prefix('\u{feff}').map_or(("", text), |body| ("\u{feff}", body))
}

#[cfg(test)]
pub(super) fn value_of(text: &str) -> Result<Value, Refusal> {
    value(&parse(text)?)
}

fn parse(text: &str) -> Result<CstRootNode, Refusal> {
    // JSON with comments, without the further syntax of JSON5.
    let options = ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    CstRootNode::parse(text, &options).map_err(|error| unreadable("JSON", &error))
}

fn value(document: &CstRootNode) -> Result<Value, Refusal> {
    document.to_serde_value().ok_or_else(unsupported)
}

fn object(document: &CstRootNode) -> Result<CstObject, Refusal> {
    document.object_value().ok_or_else(unsupported)
}

fn put(object: &CstObject, wanted: &CstObject) -> Result<(), Refusal> {
    for wanted in wanted.properties() {
        let name = wanted.decoded_name().ok_or_else(unsupported)?;
        let present = object.get(&name);
        match (present, wanted.object_value()) {
            (Some(present), Some(wanted)) if name != OURS => {
                put(&present.object_value().ok_or_else(unsupported)?, &wanted)?;
            }
            (Some(present), _) => {
                if plain(&present) != plain(&wanted) {
                    present.set_value(input(&wanted.value().ok_or_else(unsupported)?)?);
                }
            }
            (None, _) => {
                object.append(&name, input(&wanted.value().ok_or_else(unsupported)?)?);
            }
        }
    }
    Ok(())
}

fn plain(property: &CstObjectProp) -> Option<Value> {
    property.value()?.to_serde_value()
}

/// Converts a value, with its members in order.
fn input(node: &CstNode) -> Result<CstInputValue, Refusal> {
    if let Some(object) = node.as_object() {
        let member = |property: CstObjectProp| {
            let name = property.decoded_name().ok_or_else(unsupported)?;
            Ok((name, input(&property.value().ok_or_else(unsupported)?)?))
        };
        return object.properties().into_iter().map(member).collect::<Result<_, _>>().map(CstInputValue::Object);
    }
    if let Some(array) = node.as_array() {
        let elements = array.elements();
        return elements.iter().map(input).collect::<Result<_, _>>().map(CstInputValue::Array);
    }
    Ok(match node.to_serde_value().ok_or_else(unsupported)? {
        Value::String(text) => CstInputValue::String(text),
        Value::Bool(bool) => CstInputValue::Bool(bool),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        _ => CstInputValue::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::merge;

    const WANTED: &str = r#"{
  "env": {
    "B": "2",
    "A": "1"
  },
  "provider": {
    "codex-proxy": { "models": [{ "id": "m" }], "on": true, "size": 5 }
  }
}"#;

    #[test]
    fn comments_commas_and_other_members_stay() {
        let text = "\u{feff}// mine\n{\n    // about the theme\n    \"theme\": \"dark\", /* so */\n    \
                    \"env\": { \"A\": \"0\", \"Z\": \"9\" },\n}\n";
        let merged = merge(text, WANTED).unwrap();
        for part in ["\u{feff}// mine\n{\n    // about the theme\n    \"theme\": \"dark\", /* so */\n", "\"Z\": \"9\""]
        {
            assert!(merged.contains(part), "{merged}");
        }
        assert!(merged.contains("\"A\": \"1\"") && merged.contains("\"id\": \"m\""), "{merged}");
        assert_eq!(merge(&merged, WANTED).unwrap(), merged, "a second merge changes nothing");
    }

    #[test]
    fn the_entry_of_this_program_is_replaced_as_a_whole() {
        let text = r#"{"provider": {"codex-proxy": {"old": 1}, "other": {"x": 1}}}"#;
        let merged = merge(text, WANTED).unwrap();
        assert!(!merged.contains("old") && merged.contains(r#""other": {"x": 1}"#), "{merged}");
    }

    #[test]
    fn invalid_json_and_other_structures_are_refused() {
        for text in ["{", "[]", "{'env': {}}", r#"{"env": 5}"#, r#"{"provider": []}"#] {
            assert!(merge(text, WANTED).is_err(), "{text}");
        }
    }
}
