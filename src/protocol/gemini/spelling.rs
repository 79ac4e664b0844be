//! Reads members whose names are in camel case or in snake case, and enumerations by name or number.

use std::borrow::Cow;

use crate::error::ProxyError;
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// Returns a name in camel case, as Google's reference has it.
pub(super) fn camel_case(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut camel = String::with_capacity(name.len());
    let mut starts_word = false;
    for c in name.chars() {
        if c == '_' {
            starts_word = !camel.is_empty();
        } else if std::mem::take(&mut starts_word) {
            camel.push(c.to_ascii_uppercase());
        } else {
            camel.push(c);
        }
    }
    Cow::Owned(camel)
}

/// The members of an object that are not null, with their names in camel case.
pub(super) fn fields<'a, 'c>(
    object: &'c Field<'a, '_>,
    members: &'c RawObject<'a>,
) -> impl Iterator<Item = (Cow<'c, str>, Field<'a, 'c>)> {
    object.fields(members).map(|(name, field)| (camel_case(name), field))
}

/// Reads each element of an array, or a single object in place of an array, which Google's parser accepts too.
///
/// # Errors
/// If the value is neither, or `read` fails.
pub(super) fn elements<'a, T>(
    list: &Field<'a, '_>,
    mut read: impl FnMut(&Field<'a, '_>) -> Result<T, ProxyError>,
) -> Result<Vec<T>, ProxyError> {
    if list.is_object() {
        return Ok(vec![read(list)?]);
    }
    list.list()?.iter().enumerate().map(|(index, value)| read(&list.element(index, value))).collect()
}

/// Reads a value of an enumeration, in upper case. `names` are its names by number: Google's REST clients
/// (`enum-encoding=int`) send the number in place of the name.
///
/// # Errors
/// If the value is neither a string nor the number of a name.
pub(super) fn enum_name(value: &Field<'_, '_>, names: &[&'static str]) -> Result<Cow<'static, str>, ProxyError> {
    let position = value.whole_number().and_then(|number| usize::try_from(number).ok());
    match position.and_then(|position| names.get(position)) {
        Some(name) => Ok(Cow::Borrowed(name)),
        None => Ok(Cow::Owned(value.text()?.to_ascii_uppercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::camel_case;

    #[test]
    fn both_spellings_have_one_name() {
        for (name, expected) in [
            ("systemInstruction", "systemInstruction"),
            ("system_instruction", "systemInstruction"),
            ("response_json_schema", "responseJsonSchema"),
            ("top_p", "topP"),
            ("text", "text"),
            ("_a__b_", "aB"),
        ] {
            assert_eq!(camel_case(name), expected);
        }
    }
}
