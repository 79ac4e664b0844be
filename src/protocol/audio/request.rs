//! Reads the form of a transcription request.
//!
//! Fields that would change the form of the response are refused; fields that only guide the transcription are ignored
//! with a warning.

use std::borrow::Cow;

use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;
use crate::protocol::form::{self, FormFields, FormPart};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;

/// The file types that OpenAI's API accepts: file name extension and content type.
const FILE_TYPES: [(&str, &str); 10] = [
    ("flac", "audio/flac"),
    ("mp3", "audio/mpeg"),
    ("mp4", "audio/mp4"),
    ("mpeg", "audio/mpeg"),
    ("mpga", "audio/mpeg"),
    ("m4a", "audio/mp4"),
    ("ogg", "audio/ogg"),
    ("oga", "audio/ogg"),
    ("wav", "audio/wav"),
    ("webm", "audio/webm"),
];
/// Other content types of these files, with the extension.
const OTHER_CONTENT_TYPES: [(&str, &str); 9] = [
    ("audio/x-flac", "flac"),
    ("audio/mp3", "mp3"),
    ("audio/m4a", "m4a"),
    ("audio/x-m4a", "m4a"),
    ("audio/x-wav", "wav"),
    ("audio/wave", "wav"),
    ("audio/vnd.wave", "wav"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
];
const FILE: &str = "file";
const FORM: FormFields = FormFields {
    files: &[FILE],
    texts: &["model", "language", "languages", "response_format", "prompt"],
    scalars: &["temperature", "stream"],
};

/// A decoded request.
#[derive(Clone, Debug)]
pub struct Transcription<'a> {
    /// The content of the audio file.
    pub(super) audio: &'a [u8],
    /// One of OpenAI's file types.
    pub(super) extension: &'static str,
    /// The content type of the audio file.
    pub(super) content_type: &'static str,
    /// The language, as the client wrote it.
    pub(super) language: Option<Cow<'a, str>>,
    /// The form of the response.
    pub format: TranscriptionFormat,
    /// Fields that were ignored.
    pub warnings: Warnings,
}

/// The form of the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TranscriptionFormat {
    /// A JSON object with the text.
    #[default]
    Json,
    /// The text.
    Text,
}

/// Converts the text parts of a form to JSON, for [`decode`].
///
/// # Errors
/// If a text is too long or not UTF-8.
pub fn form_members(parts: &[FormPart]) -> Result<String, ProxyError> {
    form::to_json(parts, &FORM)
}

/// Reads a request; `members` is the result of [`form_members`]. `path_model` is the model that the URL names, for a
/// form without one. `limit_bytes` is the maximum size of the audio file (`audio.max_bytes`).
///
/// # Errors
/// If the audio file is missing, too large or of another type, or the response would need more than a text.
pub fn decode<'a>(
    parts: &'a [FormPart],
    members: &'a str,
    path_model: Option<&str>,
    limit_bytes: u64,
) -> Result<Transcription<'a>, ProxyError> {
    let file = parts.iter().rfind(|part| part.field() == FILE).ok_or_else(|| Refusal::missing(FILE))?;
    let (extension, content_type) = file_type(file)?;
    if file.data.is_empty() {
        return Err(Refusal::invalid(FILE, "'file' is empty"));
    }
    if file.data.len() as u64 > limit_bytes {
        let message = format!(
            "'file' has {} bytes, which is more than {limit_bytes} (setting audio.max_bytes); send it in parts",
            file.data.len()
        );
        return Err(Refusal::too_large(FILE, message));
    }
    let mut request = Transcription {
        audio: &file.data,
        extension,
        content_type,
        language: None,
        format: TranscriptionFormat::Json,
        warnings: Warnings::default(),
    };
    let members = RawObject::from_body(members.as_bytes())?;
    for (name, field) in members.fields() {
        request.read(name, &field)?;
    }
    if members.get("model").is_none() && path_model.is_some_and(|model| !is_transcription_model(model)) {
        request.warnings.ignored("model");
    }
    Ok(request)
}

impl<'a> Transcription<'a> {
    fn read(&mut self, name: &str, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        match name {
            "language" => self.language = Some(field.text()?).filter(|language| !language.is_empty()),
            "languages" => self.read_languages(field)?,
            "response_format" => self.format = format(field)?,
            "stream" if field.flag()? => {
                return Err(Refusal::unsupported_value(
                    name,
                    "this backend returns the whole text at once; leave out 'stream'",
                ));
            }
            "timestamp_granularities" => {
                return Err(Refusal::unsupported_parameter(
                    name,
                    "this backend returns the text without timestamps; leave out 'timestamp_granularities'",
                ));
            }
            "include" => {
                return Err(Refusal::unsupported_parameter(
                    name,
                    "this backend returns the text without log probabilities; leave out 'include'",
                ));
            }
            _ => {
                if is_ignored(name, field)? {
                    self.warnings.ignored(name);
                }
            }
        }
        Ok(())
    }

    /// Reads the list of possible languages. The backend accepts one.
    fn read_languages(&mut self, field: &Field<'a, '_>) -> Result<(), ProxyError> {
        let only = if field.is_text() {
            Some(field.text()?)
        } else {
            match &*field.list()? {
                [only] => Some(field.element(0, only).text()?),
                _ => None,
            }
        };
        match only {
            Some(language) if self.language.is_none() => self.language = Some(language),
            _ => self.warnings.ignored("languages"),
        }
        Ok(())
    }
}

fn format(field: &Field<'_, '_>) -> Result<TranscriptionFormat, ProxyError> {
    match &*field.text()? {
        "json" => Ok(TranscriptionFormat::Json),
        "text" => Ok(TranscriptionFormat::Text),
        "verbose_json" | "srt" | "vtt" | "diarized_json" => {
            let message = "this backend returns the text only; set 'response_format' to json or text";
            Err(Refusal::unsupported_value(field.to_string(), message))
        }
        _ => Err(field.invalid("must be json or text")),
    }
}

/// Whether an unsupported member is reported as ignored. Members that can't change the text aren't.
fn is_ignored(name: &str, field: &Field<'_, '_>) -> Result<bool, ProxyError> {
    match name {
        "stream" | "user" | "safety_identifier" | "metadata" => Ok(false),
        "model" => Ok(!is_transcription_model(&field.text()?)),
        "temperature" => field.differs_from(0.0),
        "prompt" => Ok(!field.text()?.is_empty()),
        _ => Ok(true),
    }
}

fn is_transcription_model(name: &str) -> bool {
    name.contains("transcribe") || name.starts_with("whisper") || name.is_empty()
}

/// The extension and content type of an audio file, by its name or else its declared content type.
fn file_type(file: &FormPart) -> Result<(&'static str, &'static str), ProxyError> {
    let named =
        file.file_name.as_deref().and_then(|name| name.rsplit_once('.')).map(|(_, end)| end.to_ascii_lowercase());
    let by_extension = |wanted: &str| FILE_TYPES.into_iter().find(|(extension, _)| *extension == wanted);
    let declared = file.content_type.as_deref().unwrap_or_default();
    let by_content_type = || {
        let other = OTHER_CONTENT_TYPES.into_iter().find(|(content_type, _)| *content_type == declared);
        let known = FILE_TYPES.into_iter().find(|(_, content_type)| *content_type == declared);
        known.or_else(|| other.and_then(|(_, extension)| by_extension(extension)))
    };
    named.as_deref().and_then(by_extension).or_else(by_content_type).ok_or_else(|| {
        let extensions = FILE_TYPES.map(|(extension, _)| extension).join(", ");
        Refusal::invalid(FILE, format!("'file' must be an audio file whose name ends in one of: {extensions}"))
    })
}

#[cfg(test)]
mod tests {
    use super::{FormPart, Transcription, TranscriptionFormat, decode, form_members};
    use crate::error::{ProxyError, Reason, Refusal};

    fn text(name: &str, data: &'static str) -> FormPart {
        FormPart { name: name.to_owned(), data: data.into(), ..FormPart::default() }
    }

    fn file(file_name: &str, content_type: &str) -> FormPart {
        FormPart {
            file_name: Some(file_name.to_owned()),
            content_type: Some(content_type.to_owned()),
            ..text("file", "RIFF")
        }
    }

    fn read<T>(parts: &[FormPart], look: impl Fn(Transcription<'_>) -> T) -> Result<T, Refusal> {
        let result = form_members(parts).and_then(|members| decode(parts, &members, None, 100).map(look));
        result.map_err(|error| match error {
            ProxyError::Refused(refusal) => refusal,
            error => panic!("{error}"),
        })
    }

    #[test]
    fn a_file_of_a_known_type_is_accepted() {
        for (name, content_type, extension) in [
            ("talk.WAV", "application/octet-stream", "wav"),
            ("a.b.m4a", "audio/x-m4a", "m4a"),
            ("blob", "audio/webm", "webm"),
            ("blob", "audio/x-wav", "wav"),
            ("clip.bin", "video/mp4", "mp4"),
            ("note.oga", "", "oga"),
        ] {
            let got = read(&[file(name, content_type)], |request| request.extension).unwrap();
            assert_eq!(got, extension, "{name} {content_type}");
        }
    }

    #[test]
    fn missing_and_unsupported_files_are_refused_by_name() {
        let empty = FormPart { data: "".into(), ..file("a.wav", "audio/wav") };
        for parts in [vec![], vec![file("a.txt", "text/plain")], vec![file("blob", "")], vec![empty]] {
            let refusal = read(&parts, |_| ()).unwrap_err();
            assert_eq!((refusal.reason, refusal.param.as_deref()), (Reason::Invalid, Some("file")));
        }
        let long = FormPart { data: vec![0; 101].into(), ..file("a.wav", "audio/wav") };
        let refusal = read(&[long], |_| ()).unwrap_err();
        assert_eq!((refusal.reason, refusal.param.as_deref()), (Reason::TooLarge, Some("file")));
        assert!(refusal.message.contains("audio.max_bytes"), "{}", refusal.message);
    }

    #[test]
    fn unsupported_response_formats_are_refused_by_name() {
        for (name, value, param) in [
            ("response_format", "verbose_json", "response_format"),
            ("response_format", "srt", "response_format"),
            ("response_format", "vtt", "response_format"),
            ("response_format", "diarized_json", "response_format"),
            ("response_format", "xml", "response_format"),
            ("stream", "true", "stream"),
            ("timestamp_granularities[]", "word", "timestamp_granularities"),
            ("include[]", "logprobs", "include"),
        ] {
            let refusal = read(&[file("a.wav", ""), text(name, value)], |_| ()).unwrap_err();
            assert_eq!((refusal.reason, refusal.param.as_deref()), (Reason::Invalid, Some(param)), "{name} {value}");
        }
    }

    #[test]
    fn unsupported_hints_are_reported_as_ignored() {
        for (name, value, warning) in [
            ("model", "whisper-1", None),
            ("model", "gpt-4o-mini-transcribe", None),
            ("model", "default", Some("ignored:model")),
            ("prompt", "Names: Ada", Some("ignored:prompt")),
            ("prompt", "", None),
            ("temperature", "0", None),
            ("temperature", "0.2", Some("ignored:temperature")),
            ("stream", "false", None),
            ("chunking_strategy", "auto", Some("ignored:chunking_strategy")),
            ("chunking_strategy[type]", "server_vad", Some("ignored:chunking_strategy")),
            ("keywords[]", "Ada", Some("ignored:keywords")),
            ("top_p", "1", Some("ignored:top_p")),
            ("seed", "5", Some("ignored:seed")),
            ("user", "u", None),
        ] {
            let parts = [file("a.wav", ""), text(name, value)];
            let warnings = read(&parts, |request| request.warnings.header()).unwrap();
            assert_eq!(warnings.as_deref(), warning, "{name} {value}");
        }
    }

    #[test]
    fn language_and_format_are_read() {
        let parts = [text("response_format", "text"), file("a.wav", ""), text("language", "de")];
        let got = read(&parts, |request| (request.format, request.language.map(std::borrow::Cow::into_owned)));
        assert_eq!(got.unwrap(), (TranscriptionFormat::Text, Some("de".to_owned())));
    }

    #[test]
    fn a_single_possible_language_is_the_language() {
        for (languages, expected) in [
            (&[("languages[]", "de")][..], (Some("de"), None)),
            (&[("languages", "de")], (Some("de"), None)),
            (&[("languages[]", "de"), ("languages[]", "en")], (None, Some("ignored:languages"))),
            (&[("language", "en"), ("languages[]", "de")], (Some("en"), Some("ignored:languages"))),
        ] {
            let fields = languages.iter().map(|(name, value)| text(name, value));
            let parts: Vec<_> = std::iter::once(file("a.wav", "")).chain(fields).collect();
            let look = |request: Transcription<'_>| {
                (request.language.map(std::borrow::Cow::into_owned), request.warnings.header())
            };
            let (language, warning) = read(&parts, look).unwrap();
            assert_eq!((language.as_deref(), warning.as_deref()), expected, "{languages:?}");
        }
    }
}
