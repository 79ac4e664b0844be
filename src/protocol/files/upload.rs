//! The fields of an upload, except the file itself.

use std::time::Duration;

use crate::error::{ProxyError, Refusal};
use crate::protocol::Warnings;

/// Maximum length of a file's name.
pub const MAX_FILE_NAME_BYTES: usize = 512;
/// The purposes of files that a client can upload. Nothing here trains or evaluates models.
const PURPOSES: [&str; 4] = ["batch", "user_data", "vision", "assistants"];
const UNUSED_PURPOSES: [&str; 2] = ["fine-tune", "evals"];
/// The range of `expires_after[seconds]`.
const MIN_SECONDS: u64 = 60 * 60;
const MAX_SECONDS: u64 = 30 * 24 * 60 * 60;

/// The fields that were read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadFields {
    purpose: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
    /// Names the fields that are ignored.
    pub warnings: Warnings,
}

/// What to do with the uploaded file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// What it is for.
    pub purpose: String,
    /// How long to keep it, if the client says so.
    pub lifetime: Option<Duration>,
}

impl UploadFields {
    /// Reads a field that isn't the file.
    pub fn read(&mut self, name: &str, text: &str) {
        let text = Some(text.trim().to_owned());
        match name {
            "purpose" => self.purpose = text,
            "expires_after[anchor]" => self.anchor = text,
            "expires_after[seconds]" => self.seconds = text,
            other => self.warnings.ignored(other),
        }
    }

    /// Checks the fields together, with the name of the file.
    ///
    /// # Errors
    /// If a field is missing or invalid, or a batch isn't in a `.jsonl` file.
    pub fn check(&self, filename: &str) -> Result<UploadOptions, ProxyError> {
        let purpose = self.purpose.as_deref().ok_or_else(|| Refusal::missing("purpose"))?;
        if UNUSED_PURPOSES.contains(&purpose) {
            let message = format!("files for '{purpose}' can't be used here: models can't be trained or evaluated");
            return Err(Refusal::unsupported_value("purpose", message));
        }
        if !PURPOSES.contains(&purpose) {
            let message = format!("'purpose' must be one of {}", PURPOSES.join(", "));
            return Err(Refusal::invalid("purpose", message));
        }
        if purpose == "batch" && !filename.to_ascii_lowercase().ends_with(".jsonl") {
            return Err(Refusal::invalid("file", "the name of a file for a batch must end in .jsonl"));
        }
        Ok(UploadOptions { purpose: purpose.to_owned(), lifetime: self.lifetime()? })
    }

    fn lifetime(&self) -> Result<Option<Duration>, ProxyError> {
        let (Some(anchor), Some(seconds)) = (&self.anchor, &self.seconds) else {
            return match (&self.anchor, &self.seconds) {
                (None, None) => Ok(None),
                (None, Some(_)) => Err(Refusal::missing("expires_after[anchor]")),
                _ => Err(Refusal::missing("expires_after[seconds]")),
            };
        };
        lifetime("expires_after", anchor, seconds.parse().ok()).map(Some)
    }
}

/// Checks an expiration policy. `seconds` is `None` if it isn't a whole number.
pub(in crate::protocol) fn lifetime(name: &str, anchor: &str, seconds: Option<u64>) -> Result<Duration, ProxyError> {
    if anchor != "created_at" {
        return Err(Refusal::invalid(format!("{name}.anchor"), format!("'{name}.anchor' must be 'created_at'")));
    }
    let seconds = seconds.filter(|seconds| (MIN_SECONDS..=MAX_SECONDS).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let message = format!("'{name}.seconds' must be a whole number from {MIN_SECONDS} to {MAX_SECONDS}");
        Refusal::invalid(format!("{name}.seconds"), message)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::UploadFields;
    use crate::error::ProxyError;

    fn fields(pairs: &[(&str, &str)]) -> UploadFields {
        let mut fields = UploadFields::default();
        for (name, text) in pairs {
            fields.read(name, text);
        }
        fields
    }

    #[test]
    fn purpose_and_expiry_are_read() {
        let read = fields(&[
            ("expires_after[anchor]", "created_at"),
            ("purpose", "user_data"),
            ("expires_after[seconds]", "3600"),
            ("other", "x"),
        ]);
        let options = read.check("a.pdf").unwrap();
        assert_eq!((options.purpose.as_str(), options.lifetime), ("user_data", Some(Duration::from_secs(3600))));
        assert_eq!(read.warnings.tokens(), ["ignored:other"]);
        assert_eq!(fields(&[("purpose", "batch")]).check("A.JSONL").unwrap().lifetime, None);
    }

    #[test]
    fn invalid_fields_are_refused_by_name() {
        let expiry = |anchor, seconds| {
            fields(&[("purpose", "vision"), ("expires_after[anchor]", anchor), ("expires_after[seconds]", seconds)])
        };
        for (fields, param) in [
            (fields(&[]), "purpose"),
            (fields(&[("purpose", "fine-tune")]), "purpose"),
            (fields(&[("purpose", "anything")]), "purpose"),
            (fields(&[("purpose", "batch")]), "file"),
            (fields(&[("purpose", "vision"), ("expires_after[seconds]", "3600")]), "expires_after[anchor]"),
            (fields(&[("purpose", "vision"), ("expires_after[anchor]", "created_at")]), "expires_after[seconds]"),
            (expiry("now", "3600"), "expires_after.anchor"),
            (expiry("created_at", "3599"), "expires_after.seconds"),
            (expiry("created_at", "1e9"), "expires_after.seconds"),
        ] {
            let Err(ProxyError::Refused(refusal)) = fields.check("a.txt") else { panic!("{fields:?} was accepted") };
            assert_eq!(refusal.param.as_deref(), Some(param));
        }
    }
}
