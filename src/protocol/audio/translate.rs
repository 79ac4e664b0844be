//! Writes the backend's form: the audio file, and its language if the client named one.

use bytes::Bytes;

use super::request::Transcription;

/// The backend's form.
#[derive(Clone, Debug)]
pub struct UploadForm {
    /// The value of `content-type`.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Writes the form. The client's file name isn't forwarded, only its extension.
#[must_use]
pub fn encode(request: &Transcription<'_>) -> UploadForm {
    let Transcription { audio, extension, content_type, language, .. } = request;
    let boundary = boundary(&[audio, language.as_deref().unwrap_or_default().as_bytes()]);
    let mut body = Vec::with_capacity(audio.len() + 512);
    body.extend_from_slice(
        format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"audio.{extension}\"\r\n\
             content-type: {content_type}\r\n\r\n"
        )
        .as_bytes(),
    );
    body.extend_from_slice(audio);
    if let Some(language) = language {
        let part = format!("\r\n--{boundary}\r\ncontent-disposition: form-data; name=\"language\"\r\n\r\n{language}");
        body.extend_from_slice(part.as_bytes());
    }
    body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    UploadForm { content_type: format!("multipart/form-data; boundary={boundary}"), body: body.into() }
}

/// Returns a boundary that occurs in none of the contents.
fn boundary(contents: &[&[u8]]) -> String {
    let candidates = (0_u64..).map(|number| format!("codex-proxy-part-{number}"));
    let occurs =
        |boundary: &String| contents.iter().any(|content| memchr::memmem::find(content, boundary.as_bytes()).is_some());
    let mut free = candidates.filter(|boundary| !occurs(boundary));
    free.next().expect("finite contents don't contain all numbers")
}

#[cfg(test)]
mod tests {
    use super::{boundary, encode};
    use crate::protocol::audio::request::{decode, form_members};
    use crate::protocol::form::FormPart;

    #[test]
    fn the_form_has_the_audio_file_and_its_language() {
        let part = |name: &str, data: &'static str| FormPart {
            name: name.to_owned(),
            file_name: Some("../secret name.WAV".to_owned()),
            data: data.into(),
            ..FormPart::default()
        };
        let parts = [part("file", "RIFF\r\n--x"), part("language", "de")];
        let members = form_members(&parts).unwrap();
        let form = encode(&decode(&parts, &members, None, 100).unwrap());
        assert_eq!(form.content_type, "multipart/form-data; boundary=codex-proxy-part-0");
        let expected = "--codex-proxy-part-0\r\ncontent-disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\ncontent-type: audio/wav\r\n\r\nRIFF\r\n--x\r\n\
             --codex-proxy-part-0\r\ncontent-disposition: form-data; name=\"language\"\r\n\r\nde\r\n--codex-proxy-part-0--\r\n";
        assert_eq!(String::from_utf8(form.body.to_vec()).unwrap(), expected);
    }

    #[test]
    fn a_boundary_does_not_occur_in_the_content() {
        assert_eq!(boundary(&[b"a codex-proxy-part-0 b", b"codex-proxy-part-1"]), "codex-proxy-part-2");
    }
}
