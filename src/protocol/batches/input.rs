//! Reads the lines of an input file.
//!
//! As with OpenAI, a file with a line that isn't a request for the batch's endpoint isn't run at all: its errors are in
//! the batch, by line. Whether the body of a line is valid shows when it is run.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{ProxyError, Refusal};
use crate::protocol::json::path::Field;
use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::splice::Splice;

/// OpenAI's limit.
const MAX_LINES: u64 = 50_000;
const MAX_ID_CHARACTERS: usize = 512;
/// The maximum number of errors that a batch lists.
const MAX_ERRORS: usize = 100;

/// An error in an input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineError {
    /// OpenAI's code.
    pub code: &'static str,
    /// The number of the line, from 1; `None`: it concerns the whole file.
    pub line: Option<u64>,
    /// One sentence for the user.
    pub message: String,
    /// The member at fault.
    pub param: Option<&'static str>,
}

/// The request in a line.
#[derive(Clone, Debug)]
pub struct LineRequest<'l> {
    /// The client's id for it.
    pub custom_id: String,
    /// The body of the request.
    pub body: &'l RawValue,
}

/// Checks the lines of an input file, in order.
#[derive(Clone, Debug)]
pub struct InputCheck {
    endpoint: String,
    ids: HashSet<String>,
    lines: u64,
    errors: Vec<LineError>,
}

impl InputCheck {
    /// A check of a file for this endpoint.
    #[must_use]
    pub fn new(endpoint: String) -> Self {
        Self { endpoint, ids: HashSet::new(), lines: 0, errors: Vec::new() }
    }

    /// Checks a line; `None`: it is too long. Empty lines don't count.
    pub fn add(&mut self, number: u64, line: Option<&[u8]>) {
        if line.is_some_and(|line| line.trim_ascii().is_empty()) {
            return;
        }
        self.lines += 1;
        let error = match line {
            _ if self.lines > MAX_LINES => return,
            None => Some(LineError {
                code: "line_too_long",
                line: None,
                message: "This line is longer than a request body may be (setting limits.body).".to_owned(),
                param: None,
            }),
            Some(line) => match LineRequest::read(line, &self.endpoint) {
                Err(error) => Some(error),
                Ok(request) if self.ids.contains(&request.custom_id) => Some(LineError {
                    code: "duplicate_custom_id",
                    line: None,
                    message: "The custom_id of this line is that of an earlier one.".to_owned(),
                    param: Some("custom_id"),
                }),
                Ok(request) => {
                    self.ids.insert(request.custom_id);
                    None
                }
            },
        };
        if let Some(error) = error.filter(|_| self.errors.len() < MAX_ERRORS) {
            self.errors.push(LineError { line: Some(number), ..error });
        }
    }

    /// The number of requests in the file.
    ///
    /// # Errors
    /// The errors of the file, at most 100.
    pub fn finish(mut self) -> Result<u64, Vec<LineError>> {
        let of_file = |code, message: String| LineError { code, line: None, message, param: None };
        if self.lines == 0 {
            self.errors.push(of_file("empty_file", "The input file has no requests.".to_owned()));
        }
        if self.lines > MAX_LINES {
            let message = format!("The input file has more than {MAX_LINES} requests.");
            self.errors.insert(0, of_file("too_many_tasks", message));
        }
        if self.errors.is_empty() { Ok(self.lines) } else { Err(self.errors) }
    }
}

impl<'l> LineRequest<'l> {
    /// Reads a line for a batch with this endpoint. The error has no line number.
    ///
    /// # Errors
    /// If it isn't a JSON object, or a member is missing or invalid.
    pub fn read(line: &'l [u8], endpoint: &str) -> Result<Self, LineError> {
        let error = |code, param, message: &str| {
            let message = message.to_owned();
            LineError { code, line: None, message, param }
        };
        let members = std::str::from_utf8(line).ok().and_then(|text| RawObject::parse(text).ok());
        let members =
            members.ok_or_else(|| error("invalid_json_line", None, "This line is not parseable as a JSON object."))?;
        let missing = |name: &'static str| {
            let message = format!("Missing required parameter: '{name}'.");
            error("missing_required_parameter", Some(name), &message)
        };
        let text = |name| members.text(name).ok_or_else(|| missing(name));
        let custom_id = text("custom_id")?.into_owned();
        if custom_id.is_empty() || custom_id.chars().count() > MAX_ID_CHARACTERS {
            let message = format!("'custom_id' must have 1 to {MAX_ID_CHARACTERS} characters.");
            return Err(error("invalid_custom_id", Some("custom_id"), &message));
        }
        if text("method")? != "POST" {
            return Err(error("invalid_method", Some("method"), "'method' must be 'POST'."));
        }
        if text("url")? != endpoint {
            let message = format!("'url' must be the endpoint of the batch, '{endpoint}'.");
            return Err(error("mismatched_endpoint", Some("url"), &message));
        }
        let body = members.get("body").filter(|body| body.get() != "null").ok_or_else(|| missing("body"))?;
        if !body.get().starts_with('{') {
            return Err(error("invalid_body", Some("body"), "'body' must be an object."));
        }
        Ok(Self { custom_id, body })
    }

    /// Checks that the response of this request is a document.
    ///
    /// # Errors
    /// If it would be a stream, or be generated in the background.
    pub fn check_mode(&self) -> Result<(), ProxyError> {
        let Ok(members) = RawObject::parse(self.body.get()) else { return Ok(()) };
        for name in ["stream", "background"] {
            let Some(value) = members.value(name) else { continue };
            if Field::from_body(name, value).flag().unwrap_or_default() {
                let message = format!("'{name}' is not available in a batch; leave it out");
                return Err(Refusal::unsupported_value(name, message));
            }
        }
        Ok(())
    }

    /// The body with `"store": false`, if it doesn't say whether its response is stored.
    #[must_use]
    pub fn unstored_body(&self) -> Option<String> {
        let members = RawObject::parse(self.body.get()).ok()?;
        if members.get("store").is_some() {
            return None;
        }
        let mut splice = Splice::new(self.body.get());
        splice.add(self.body.get(), r#""store":false"#);
        Some(splice.text().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{InputCheck, LineRequest, MAX_ERRORS, MAX_LINES};

    const ENDPOINT: &str = "/v1/responses";

    fn line(id: &str) -> String {
        json!({"custom_id": id, "method": "POST", "url": ENDPOINT, "body": {"model": "m"}}).to_string()
    }

    fn check<'l>(lines: impl IntoIterator<Item = &'l str>) -> Result<u64, Vec<(&'static str, Option<u64>)>> {
        let mut check = InputCheck::new(ENDPOINT.to_owned());
        for (number, line) in (1..).zip(lines) {
            check.add(number, Some(line.as_bytes()));
        }
        check.finish().map_err(|errors| errors.into_iter().map(|error| (error.code, error.line)).collect())
    }

    #[test]
    fn valid_lines_are_counted_and_empty_ones_are_not() {
        assert_eq!(check([line("a").as_str(), "", "  ", &line("b")]), Ok(2));
        assert_eq!(check(["", " "]), Err(vec![("empty_file", None)]));
    }

    #[test]
    fn every_bad_line_is_reported_with_its_number() {
        let change = |name: &str, value: serde_json::Value| {
            let mut line: serde_json::Value = serde_json::from_str(&line("x")).unwrap();
            line[name] = value;
            line.to_string()
        };
        let lines = [
            line("a"),
            "no JSON".to_owned(),
            "[]".to_owned(),
            line("a"),
            change("custom_id", json!(5)),
            change("custom_id", json!("")),
            change("method", json!("GET")),
            change("url", json!("/v1/embeddings")),
            change("body", json!(null)),
            change("body", json!("x")),
        ];
        let codes = [
            "invalid_json_line",
            "invalid_json_line",
            "duplicate_custom_id",
            "missing_required_parameter",
            "invalid_custom_id",
            "invalid_method",
            "mismatched_endpoint",
            "missing_required_parameter",
            "invalid_body",
        ];
        let expected: Vec<_> = codes.into_iter().zip((2..).map(Some)).collect();
        assert_eq!(check(lines.iter().map(String::as_str)), Err(expected));
    }

    #[test]
    fn the_numbers_of_lines_and_errors_are_limited() {
        assert_eq!(check(vec!["x"; MAX_ERRORS + 1]).unwrap_err().len(), MAX_ERRORS);
        let mut check = InputCheck::new(ENDPOINT.to_owned());
        (1..=MAX_LINES + 1).for_each(|number| check.add(number, Some(line(&number.to_string()).as_bytes())));
        assert_eq!(check.finish().unwrap_err()[0].code, "too_many_tasks");
        let mut check = InputCheck::new(ENDPOINT.to_owned());
        check.add(1, None);
        assert_eq!(check.finish().unwrap_err()[0].code, "line_too_long");
    }

    #[test]
    fn a_line_keeps_the_bytes_of_its_body_and_may_not_stream() {
        let text = r#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model" : "m","x":1.0}}"#;
        let request = LineRequest::read(text.as_bytes(), ENDPOINT).unwrap();
        assert_eq!(request.body.get(), r#"{"model" : "m","x":1.0}"#);
        assert!(request.check_mode().is_ok());
        for member in ["stream", "background"] {
            let text = text.replace("\"x\":1.0", &format!("\"{member}\":true"));
            assert!(LineRequest::read(text.as_bytes(), ENDPOINT).unwrap().check_mode().is_err());
        }
    }

    #[test]
    fn a_response_is_stored_only_if_the_body_says_so() {
        let unstored = |body: &str| {
            let text = format!(r#"{{"custom_id":"a","method":"POST","url":"/v1/responses","body":{body}}}"#);
            LineRequest::read(text.as_bytes(), ENDPOINT).unwrap().unstored_body()
        };
        let body: serde_json::Value = serde_json::from_str(&unstored(r#"{"model":"m"}"#).unwrap()).unwrap();
        assert_eq!(body, json!({"model": "m", "store": false}));
        assert_eq!(unstored("{}").unwrap(), r#"{"store":false}"#);
        for body in [r#"{"store":true}"#, r#"{"store":false}"#] {
            assert_eq!(unstored(body), None);
        }
    }
}
