use std::borrow::Cow;

use proptest::prelude::*;

use super::{PartList, UpstreamEvent};
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;

#[test]
fn a_delta_is_borrowed_and_not_decoded() {
    let data = r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":3,"content_index":0,"delta":"a\n\ud83d"}"#;
    let UpstreamEvent::Text(place, text) = UpstreamEvent::decode(data) else { panic!("no text") };
    assert_eq!(text.escaped(), r"a\n\ud83d");
    assert!(data.as_bytes().as_ptr_range().contains(&text.escaped().as_ptr()));
    assert!(matches!(place.item_id, Some(Str(Cow::Borrowed("msg_1")))));
    assert_eq!((place.output_index, place.part_index, place.list), (Some(3), Some(0), PartList::Content));
}

#[test]
fn the_type_may_come_last_and_may_be_escaped() {
    let data = r#"{"delta":"x","type":"response.output_text\u002edelta"}"#;
    assert!(matches!(UpstreamEvent::decode(data), UpstreamEvent::Text(..)));
}

#[test]
fn an_unknown_type_keeps_the_whole_event() {
    let data = r#"{"type":"codex.rate_limits","delta":{"a":1},"part":7}"#;
    let UpstreamEvent::Other { kind, data: carried } = UpstreamEvent::decode(data) else { panic!("not other") };
    assert_eq!((kind.as_str(), carried), ("codex.rate_limits", data));
}

#[test]
fn known_types_have_required_members() {
    for data in [
        "{",
        "7",
        "null",
        r#"{"delta":"x"}"#,
        r#"["response.completed"]"#,
        r#"{"type":null}"#,
        r#"{"type":"response.output_text.delta"}"#,
        r#"{"type":"response.output_text.delta","delta":7}"#,
        r#"{"type":"response.output_text.delta","delta":"cut"#,
        r#"{"type":"response.output_item.done"}"#,
        r#"{"type":"response.output_item.done","item":[]}"#,
    ] {
        assert!(matches!(UpstreamEvent::decode(data), UpstreamEvent::Malformed { .. }), "{data}");
    }
}

#[test]
fn the_type_alone_makes_an_event_terminal() {
    for response in ["", r#","response":null"#, r#","response":{"usage":{"input_tokens":-1}}"#] {
        let data = format!(r#"{{"type":"response.completed"{response}}}"#);
        assert!(UpstreamEvent::decode(&data).is_terminal(), "{data}");
    }
}

#[test]
fn null_members_of_a_response_are_absent() {
    let data =
        r#"{"type":"response.done","response":{"id":null,"created_at":1.5,"usage":null,"incomplete_details":null}}"#;
    let UpstreamEvent::Completed(response) = UpstreamEvent::decode(data) else { panic!("not completed") };
    assert_eq!((response.id, response.created_at, response.usage), (None, Some(1), None));
}

#[test]
fn summary_parts_have_their_own_index() {
    let data = r#"{"type":"response.reasoning_summary_text.delta","summary_index":2,"delta":"x"}"#;
    let UpstreamEvent::Reasoning(place, _) = UpstreamEvent::decode(data) else { panic!("no reasoning") };
    assert_eq!((place.part_index, place.list), (Some(2), PartList::Summary));
}

#[test]
fn empty_data_and_done_markers_are_not_malformed() {
    for data in ["", "[DONE]"] {
        assert!(matches!(UpstreamEvent::decode(data), UpstreamEvent::Other { .. }));
    }
}

#[test]
fn decoding_members_equals_decoding_the_text() {
    for data in [
        r#"{"type":"response.output_text.delta","item_id":"msg_1","output_index":3,"content_index":null,"delta":"a"}"#,
        r#"{"type":"response.output_text.delta","output_index":"3","delta":"a"}"#,
        r#"{"type":"response.reasoning_summary_text.done","summary_index":1,"text":"x","new":[1]}"#,
        r#"{"type":"response.output_item.done","item":{"type":"message"}}"#,
        r#"{"type":"response.output_text.delta","delta":7}"#,
        r#"{"type":"response.tomorrow"}"#,
    ] {
        let members = RawObject::parse(data).unwrap();
        let (own, read) = (UpstreamEvent::of_members(&members, data), UpstreamEvent::decode(data));
        assert_eq!(format!("{own:?}"), format!("{read:?}"));
    }
}

proptest! {
    #[test]
    fn decoding_never_fails(text in any::<String>(), cut in any::<prop::sample::Index>(), value in "[0-9\"{}\\[\\],:a\\\\un-]{0,12}") {
        let _ = UpstreamEvent::decode(&text);
        let known = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text"}]}}"#;
        let at = cut.index(known.len());
        let (left, right) = known.split_at(at);
        let _ = UpstreamEvent::decode(left);
        let _ = UpstreamEvent::decode(&format!("{left}{value}{right}"));
    }
}
