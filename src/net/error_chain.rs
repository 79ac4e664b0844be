//! Formats transport errors for users.
//!
//! The libraries report a chain of causes, from the operation down to the system's error. Entries that only name
//! a step inside a library are left out or replaced, as are repetitions.

/// Library messages and their replacements. An empty replacement drops the entry.
const REPLACEMENTS: [(&str, &str); 5] = [
    ("client error (Connect)", ""),
    ("dns error", ""),
    ("error resolving DNS", ""),
    ("tcp connect error", ""),
    ("tunnel error: failed to create underlying connection", "the proxy can't be reached"),
];

/// Formats the chain of causes of a transport error, outermost first, separated by colons. URLs are left out, because
/// their query may contain secrets. Certificate errors end with advice.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // reqwest's message repeats the URL; the reason is in its sources.
        let text = match error.downcast_ref::<reqwest::Error>() {
            Some(outer) if outer.is_timeout() => "timed out".to_owned(),
            Some(_) if error.source().is_some() => String::new(),
            _ => error.to_string(),
        };
        if !text.is_empty() && !texts.iter().any(|seen| seen.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    let last = texts.len().saturating_sub(1);
    let shown =
        texts.iter().enumerate().map(|(index, text)| match REPLACEMENTS.iter().find(|(from, _)| from == text) {
            // The last entry stays: nothing else names the cause.
            Some((_, replacement)) if index < last => *replacement,
            _ => text.as_str(),
        });
    let chain = shown.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    format!("{chain}{}", certificate_advice(&chain))
}

fn certificate_advice(cause: &str) -> &'static str {
    match cause.split_once("invalid peer certificate") {
        None => "",
        Some((_, why)) if why.contains("expired") || why.contains("not valid yet") => "; check this machine's clock",
        Some(_) => "; if a firewall or proxy on your network inspects TLS, set upstream.ca_file to its CA bundle",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fmt;

    use super::error_chain;

    /// An error with this message and source.
    #[derive(Debug)]
    struct Chain(&'static str, Option<Box<Chain>>);

    impl fmt::Display for Chain {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Chain {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|next| next as &dyn Error)
        }
    }

    fn formatted(texts: &[&'static str]) -> String {
        let chain = texts.iter().rev().fold(None, |next, text| Some(Box::new(Chain(text, next))));
        error_chain(chain.unwrap().as_ref())
    }

    #[test]
    fn library_steps_are_left_out() {
        let name = ["client error (Connect)", "dns error", "error resolving DNS", "no such name"];
        assert_eq!(formatted(&name), "no such name");
        let proxy = [
            "client error (Connect)",
            "tunnel error: failed to create underlying connection",
            "tcp connect error",
            "Connection refused",
        ];
        assert_eq!(formatted(&proxy), "the proxy can't be reached: Connection refused");
        assert_eq!(formatted(&["client error (Connect)"]), "client error (Connect)");
    }

    #[test]
    fn certificate_errors_end_with_advice() {
        let unknown = formatted(&["client error (Connect)", "invalid peer certificate: UnknownIssuer"]);
        assert!(unknown.starts_with("invalid peer") && unknown.ends_with("CA bundle"), "{unknown}");
        assert!(formatted(&["invalid peer certificate: certificate expired"]).ends_with("clock"));
    }
}
