//! Converts the backend's reply to the response that the client requested.

use bytes::Bytes;

use super::request::TranscriptionFormat;
use crate::error::ProxyError;
use crate::protocol::json::raw_object::RawObject;

/// Returns the body of the response. A JSON response has the bytes of the reply, including unknown members.
///
/// # Errors
/// [`ProxyError::Damaged`] if the reply isn't a JSON object with a text.
pub fn respond(reply: &Bytes, format: TranscriptionFormat) -> Result<Bytes, ProxyError> {
    let members = std::str::from_utf8(reply).ok().and_then(|text| RawObject::parse(text).ok());
    let text = members.and_then(|members| members.text("text")).ok_or_else(|| ProxyError::Damaged {
        reason: "it is not a JSON object with a text (reply of the transcription endpoint)".to_owned(),
    })?;
    Ok(match format {
        TranscriptionFormat::Json => reply.clone(),
        // OpenAI's API ends the text with a line break, too.
        TranscriptionFormat::Text => Bytes::from(format!("{text}\n")),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::respond;
    use crate::protocol::audio::TranscriptionFormat;

    #[test]
    fn a_reply_becomes_json_or_text() {
        let reply = Bytes::from_static(br#"{"text":"Gr\u00fc\u00dfe","new":1}"#);
        assert_eq!(respond(&reply, TranscriptionFormat::Json).unwrap(), reply);
        assert_eq!(respond(&reply, TranscriptionFormat::Text).unwrap(), "Grüße\n");
        let silence = Bytes::from_static(br#"{"text":""}"#);
        assert_eq!(respond(&silence, TranscriptionFormat::Text).unwrap(), "\n");
        for damaged in ["", "[]", "{}", r#"{"text":null}"#, r#"{"text":"a"#] {
            let reply = Bytes::copy_from_slice(damaged.as_bytes());
            assert!(respond(&reply, TranscriptionFormat::Json).is_err(), "{damaged}");
        }
    }
}
