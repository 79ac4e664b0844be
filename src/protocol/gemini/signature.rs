//! Thought signatures: the backend's encrypted reasoning, in the base64 that the API requires.
//!
//! Clients decode a signature to bytes and may encode it again in the alphabet for URLs. Only signatures that this
//! proxy issued are replayed: the backend can't read those of other services.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// The start of the decoded signatures that this proxy issues.
const PREFIX: &str = "cxr1.";

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD_ENGINE: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL_ENGINE: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Encodes encrypted reasoning as a signature.
pub(super) fn encode(encrypted: &str) -> String {
    STANDARD_ENGINE.encode([PREFIX, encrypted].concat())
}

/// Decodes a signature to encrypted reasoning. `None` if this proxy didn't issue it.
pub(super) fn decode(signature: &str) -> Option<String> {
    let engine = if signature.contains(['-', '_']) { &URL_ENGINE } else { &STANDARD_ENGINE };
    let text = String::from_utf8(engine.decode(signature.trim()).ok()?).ok()?;
    text.strip_prefix(PREFIX).filter(|encrypted| !encrypted.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn a_signature_survives_both_alphabets_and_lost_padding() {
        let encrypted = "gAAAA_-~?~?ü>>>>";
        let signature = encode(encrypted);
        assert!(signature.contains(['+', '/']) && signature.ends_with('='), "{signature}");
        let in_url = signature.replace('+', "-").replace('/', "_");
        for form in [&signature, &in_url, signature.trim_end_matches('='), in_url.trim_end_matches('=')] {
            assert_eq!(decode(form).as_deref(), Some(encrypted), "{form}");
        }
    }

    #[test]
    fn foreign_signatures_are_not_read() {
        for foreign in ["", "skip_thought_signature_validator", "Y3hyMS4=", "AAECAw==", "ü"] {
            assert_eq!(decode(foreign), None, "{foreign}");
        }
    }
}
