//! Why a connection came to nothing, in words for a person.
//!
//! The libraries tell a chain, from what was tried down to what the system said. Their own steps are
//! left out, and what they call by names of their own is called by ours.

/// What the libraries say on the way to the cause, and what it means to a person.
const WORDS: [(&str, &str); 5] = [
    ("client error (Connect)", ""),
    ("dns error", ""),
    ("error resolving DNS", ""),
    ("tcp connect error", ""),
    ("tunnel error: failed to create underlying connection", "the proxy can't be reached"),
];

/// The chain of causes of a transport error, outermost first, without the address (a query may
/// hold what should not be seen). A certificate that is refused comes with what can be done about it.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // reqwest's own line repeats the address; its sources carry the facts.
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
    let said = texts.iter().enumerate().map(|(index, text)| match WORDS.iter().find(|(word, _)| word == text) {
        // Where nothing follows, it is all that is known.
        Some((_, plain)) if index < last => *plain,
        _ => text.as_str(),
    });
    let told = said.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
    format!("{told}{}", certificate_help(&told))
}

/// What helps where the certificate of whoever answered is refused.
fn certificate_help(cause: &str) -> &'static str {
    match cause.split_once("invalid peer certificate") {
        None => "",
        Some((_, why)) if why.contains("expired") || why.contains("not valid yet") => {
            "; is this machine's clock right?"
        }
        Some(_) => "; if something on the way has certificates of its own, name their bundle in upstream.ca_file",
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fmt;

    use super::error_chain;

    /// An error for each of these texts, each the source of the one before.
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

    fn told(texts: &[&'static str]) -> String {
        let chain = texts.iter().rev().fold(None, |next, text| Some(Box::new(Chain(text, next))));
        error_chain(chain.unwrap().as_ref())
    }

    #[test]
    fn the_steps_of_the_libraries_are_left_out() {
        let name = ["client error (Connect)", "dns error", "error resolving DNS", "no such name"];
        assert_eq!(told(&name), "no such name");
        let proxy = [
            "client error (Connect)",
            "tunnel error: failed to create underlying connection",
            "tcp connect error",
            "Connection refused",
        ];
        assert_eq!(told(&proxy), "the proxy can't be reached: Connection refused");
        assert_eq!(told(&["client error (Connect)"]), "client error (Connect)");
    }

    #[test]
    fn a_certificate_that_is_refused_comes_with_what_helps() {
        let unknown = told(&["client error (Connect)", "invalid peer certificate: UnknownIssuer"]);
        assert!(unknown.starts_with("invalid peer") && unknown.ends_with("upstream.ca_file"), "{unknown}");
        assert!(told(&["invalid peer certificate: certificate expired"]).ends_with("clock right?"));
    }
}
