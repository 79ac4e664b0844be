//! Bodies of Responses requests with many unknown members.

use proptest::prelude::*;

/// A body, and the parts of it that must be sent unchanged.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) body: String,
    pub(crate) kept: Vec<String>,
    /// The items, as they must be sent.
    pub(crate) items: String,
}

/// JSON in foreign spellings: arbitrary white space, number formats and escapes.
pub(crate) fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "-0.0",
        "1.50e+03",
        "1E5",
        "12345678901234567890123",
        r#""""#,
        r#""\u00e9\/\ud83d\ude00""#,
        r#""é \" } ] , :""#,
        "[ ]",
        "{ }",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 16, 4, |inner| {
        let space = prop::sample::select(vec!["", " ", "\n\t"]);
        let member =
            (prop::sample::select(vec!["id", "a", "type2", r"\u0062", "content"]), inner.clone(), space.clone());
        let members = prop::collection::vec(member, 0..4).prop_map(|members| {
            let members: Vec<_> =
                members.iter().map(|(name, value, space)| format!("{space}\"{name}\":{space}{value}{space}")).collect();
            format!("{{{}}}", members.join(","))
        });
        let list = (prop::collection::vec(inner, 0..4), space)
            .prop_map(|(list, space)| format!("[{}]", list.join(&format!("{space},"))));
        prop_oneof![members, list]
    })
}

/// An item that needs no change.
fn any_item() -> impl Strategy<Value = String> {
    (0_usize..7, any_json(), any_json()).prop_map(|(kind, one, two)| match kind {
        0 => format!(r#"{{ "type":"tomorrow", "x":{one},"call_id":7,"role":"system","y" : {two}}}"#),
        1 => format!(r#"{{"type":"additional_tools","id":"at_@","role":"developer","tools":{one},"z":{two}}}"#),
        2 => format!(r#"{{"role":"user","content":[{{"type":"input_text","text":"x","new":{one}}},{{"type":"new","v":{two}}}],"type":"message"}}"#),
        3 => format!(r#"{{"type":"compaction","id":"odd@","encrypted_content":"g","x":{one}}}"#),
        4 => format!(r#"{{"type":"reasoning","summary":[],"encrypted_content":"g","content":[{one}]}}"#),
        5 => format!(r#"{{"type":"web_search_call","id":"whatever@","action":{one}}}"#),
        _ => format!(r#"{{"x":{one},"y":{two}}}"#),
    })
}

fn any_tool() -> impl Strategy<Value = String> {
    (0_usize..4, any_json()).prop_map(|(kind, one)| match kind {
        0 => format!(r#"{{"type":"function","name":"f","parameters":{one}, "defer_loading":true}}"#),
        1 => format!(r#"{{"type":"namespace","name":"n","tools":[{one}]}}"#),
        2 => format!(r#"{{"type":"web_search","external_web_access":false,"new":{one}}}"#),
        _ => format!(r#"{{"type":"tomorrow","x":{one}}}"#),
    })
}

/// A complete body; all generated content is below the top level.
pub(crate) fn any_body() -> impl Strategy<Value = Generated> {
    // Ids are unique: a repeated one would be removed.
    let numbered = |items: Vec<String>| -> Vec<String> {
        items.iter().enumerate().map(|(number, item)| item.replace('@', &number.to_string())).collect()
    };
    let items = prop::collection::vec(any_item(), 1..6).prop_map(numbered);
    let lists = (items, prop::collection::vec(any_tool(), 0..4));
    (lists, any_json(), any_json(), any_json(), any_json()).prop_map(|((items, tools), metadata, format, later, choice)| {
        let choice = format!(r#"{{"type":"tomorrow","x":{choice}}}"#);
        let metadata = format!(r#"{{ "k" :{metadata}}}"#);
        let format = format!(r#"{{"type":"json_schema","name":"n","schema":{format}}}"#);
        let body = format!(
            r#"{{"model":"m","input":[{}],"tools":[{}],"tool_choice":{choice},"client_metadata":{metadata},"text":{{"format":{format},"later":{later}}},"reasoning":{{"later":{later}}}}}"#,
            items.join(" ,\n"), tools.join(", "),
        );
        let items = items.join(",");
        let kept = vec![
            format!(r#""input":[{items}]"#),
            format!(r#""tools":[{}]"#, tools.join(",")),
            format!(r#""tool_choice":{choice},"#),
            format!(r#""text":{{"format":{format},"later":{later}}}"#),
            format!(r#""reasoning":{{"summary":"auto","later":{later}}}"#),
            format!(r#""client_metadata":{metadata}"#),
        ];
        Generated { body, kept, items }
    })
}
