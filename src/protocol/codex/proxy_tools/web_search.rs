//! Web search: the function `web.run`, its requests to `alpha/search`, and the items that clients see.
//!
//! The function and the request are those of the official client (capture `side-alpha-search`). The endpoint returns
//! text for the model. The text contains the URLs of its sources; the response has no list of them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::json::raw_object::RawObject;
use crate::protocol::json::string::Str;
use crate::protocol::json::{constant, quoted};

pub(super) const NAMESPACE: &str = "web";
pub(super) const FUNCTION: &str = "run";
/// The path of the endpoint, below the base URL.
pub(super) const PATH: &str = "/alpha/search";
/// Members of the client's tool that apply to its searches.
pub(super) const SETTINGS: [&str; 4] = ["external_web_access", "user_location", "search_context_size", "filters"];
/// Limit of a search's output, as the official client sets it.
const MAX_OUTPUT_TOKENS: u32 = 10_000;

/// The client's settings of the hosted tool.
#[derive(Clone, Debug)]
pub struct SearchSettings {
    /// Whether pages may be loaded from the web. Otherwise only the backend's index is used.
    external_web_access: bool,
    user_location: Option<Box<RawValue>>,
    search_context_size: Option<Box<RawValue>>,
    filters: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct SearchBody<'s> {
    id: &'s str,
    model: &'s str,
    commands: &'s RawValue,
    settings: SettingsBody<'s>,
    max_output_tokens: u32,
}

#[derive(Serialize)]
struct SettingsBody<'s> {
    allowed_callers: [&'static str; 1],
    external_web_access: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<&'s RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_context_size: Option<&'s RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'s RawValue>,
}

#[derive(Deserialize)]
struct SearchResponse<'a> {
    #[serde(borrow)]
    output: Str<'a>,
}

impl SearchSettings {
    /// Reads the members of a hosted `web_search` tool.
    pub(super) fn read(tool: &RawObject<'_>) -> Self {
        let given = |name: &str| tool.get(name).filter(|value| value.get() != "null").map(ToOwned::to_owned);
        Self {
            external_web_access: tool.get("external_web_access").is_none_or(|value| value.get() != "false"),
            user_location: given("user_location"),
            search_context_size: given("search_context_size"),
            filters: given("filters"),
        }
    }

    /// The body of the request for a call with these commands.
    pub(super) fn body(&self, session: &str, model: &str, commands: &RawValue) -> Bytes {
        let settings = SettingsBody {
            allowed_callers: ["direct"],
            external_web_access: self.external_web_access,
            user_location: self.user_location.as_deref(),
            search_context_size: self.search_context_size.as_deref(),
            filters: self.filters.as_deref(),
        };
        let body = SearchBody { id: session, model, commands, settings, max_output_tokens: MAX_OUTPUT_TOKENS };
        serde_json::to_vec(&body).expect("strings, numbers and raw JSON always serialize").into()
    }
}

/// The text for the model in the endpoint's response; `None` if it has none.
pub(super) fn output(response: &[u8]) -> Option<String> {
    let response: SearchResponse<'_> = serde_json::from_slice(response).ok()?;
    Some(response.output.into_cow().into_owned())
}

/// The `action` of the search item: the public API's nearest equivalent of the call's commands.
pub(super) fn action(commands: &RawObject<'_>, sources: &[&str]) -> String {
    let first = |name: &str| {
        let first = commands.list(name).into_iter().next()?;
        RawObject::parse(first.get()).ok()
    };
    let page = |command: &RawObject<'_>| command.text("ref_id").filter(|page| is_url(page)).map(|page| quoted(&page));
    let queries = queries(commands);
    if queries.is_empty() {
        if let Some(find) = first("find")
            && let Some(url) = page(&find)
        {
            let pattern = quoted(&find.text("pattern").unwrap_or_default());
            return format!(r#"{{"type":"find_in_page","url":{url},"pattern":{pattern}}}"#);
        }
        if let Some(page_command) = ["open", "click", "screenshot", "find"].into_iter().find_map(first) {
            let url = page(&page_command).unwrap_or_else(|| "null".to_owned());
            return format!(r#"{{"type":"open_page","url":{url}}}"#);
        }
    }
    let query = quoted(queries.first().map_or("", |query| query));
    let several = if queries.len() > 1 { format!(r#","queries":[{}]"#, joined(&queries)) } else { String::new() };
    let sources: Vec<_> = sources.iter().map(|url| format!(r#"{{"type":"url","url":{}}}"#, quoted(url))).collect();
    format!(r#"{{"type":"search","query":{query}{several},"sources":[{}]}}"#, sources.join(","))
}

/// The search terms of a call. A lookup of weather, prices, scores or the time is treated as a search.
fn queries<'c>(commands: &RawObject<'c>) -> Vec<Cow<'c, str>> {
    const TERMS: [(&str, &str); 6] = [
        ("search_query", "q"),
        ("image_query", "q"),
        ("weather", "location"),
        ("finance", "ticker"),
        ("sports", "league"),
        ("time", "utc_offset"),
    ];
    let mut queries = Vec::new();
    for (name, term) in TERMS {
        for command in commands.list(name) {
            let text = RawObject::parse(command.get()).ok().and_then(|command| command.text(term));
            let label = if term == "q" { String::new() } else { format!("{name} ") };
            queries.extend(text.map(|text| if label.is_empty() { text } else { Cow::Owned(label + &text) }));
        }
    }
    queries
}

fn joined(texts: &[Cow<'_, str>]) -> String {
    texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",")
}

fn is_url(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// The namespace that is offered to the model.
pub(super) fn definition() -> &'static RawValue {
    constant(DEFINITION)
}

const DEFINITION: &str = concat!(
    r#"{"type":"namespace","name":"web","description":"Tools for searching the web.","tools":[{"type":"function","name":"run","#,
    r#""description":"Searches the web, opens pages and looks up current facts. Give any of the commands; several run at once. The output names its sources: cite their URLs in your answer.","#,
    r#""strict":false,"parameters":{"type":"object","properties":{"#,
    r#""search_query":{"type":"array","description":"Searches the web.","items":{"type":"object","properties":{"q":{"type":"string","description":"The search terms."},"recency":{"type":"integer","description":"Only pages of the last so many days."},"domains":{"type":"array","items":{"type":"string"},"description":"Only pages of these domains."}},"required":["q"]}},"#,
    r#""image_query":{"type":"array","description":"Searches for images.","items":{"type":"object","properties":{"q":{"type":"string"},"recency":{"type":"integer"},"domains":{"type":"array","items":{"type":"string"}}},"required":["q"]}},"#,
    r#""open":{"type":"array","description":"Opens a page.","items":{"type":"object","properties":{"ref_id":{"type":"string","description":"A reference id of an earlier output, or a URL."},"lineno":{"type":"integer","description":"The first line to show."}},"required":["ref_id"]}},"#,
    r#""click":{"type":"array","description":"Opens a link of an opened page.","items":{"type":"object","properties":{"ref_id":{"type":"string"},"id":{"type":"integer","description":"The number of the link."}},"required":["ref_id","id"]}},"#,
    r#""find":{"type":"array","description":"Finds text in a page.","items":{"type":"object","properties":{"ref_id":{"type":"string"},"pattern":{"type":"string"}},"required":["ref_id","pattern"]}},"#,
    r#""screenshot":{"type":"array","description":"Shows a page of a PDF.","items":{"type":"object","properties":{"ref_id":{"type":"string"},"pageno":{"type":"integer"}},"required":["ref_id","pageno"]}},"#,
    r#""finance":{"type":"array","description":"Looks up prices.","items":{"type":"object","properties":{"ticker":{"type":"string"},"type":{"type":"string"},"market":{"type":"string"}},"required":["ticker","type"]}},"#,
    r#""weather":{"type":"array","description":"Looks up the weather.","items":{"type":"object","properties":{"location":{"type":"string"},"start":{"type":"string","description":"The first day, as YYYY-MM-DD."},"duration":{"type":"integer","description":"The number of days."}},"required":["location"]}},"#,
    r#""sports":{"type":"array","description":"Looks up schedules and standings.","items":{"type":"object","properties":{"fn":{"type":"string"},"league":{"type":"string"}},"required":["fn","league"]}},"#,
    r#""time":{"type":"array","description":"Looks up the time.","items":{"type":"object","properties":{"utc_offset":{"type":"string","description":"Such as +03:00."}},"required":["utc_offset"]}},"#,
    r#""response_length":{"type":"string","enum":["short","medium","long"]}}}}]}"#,
);
