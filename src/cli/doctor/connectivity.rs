//! What can be reached from here: the proxy, the issuer, the backend; and what time it is there.
//!
//! The services are asked without any token, so that this works for nobody's account as well; any
//! answer at all shows that the way to them is free.

use std::time::{Duration, SystemTime};

use http::header::{DATE, USER_AGENT};
use tokio::net::TcpStream;

use super::finding::{Check, Finding};
use super::{LIMIT, in_time};
use crate::clock::{Clock as _, SystemClock};
use crate::command_hint::{command, unset};
use crate::config::{Config, Environment, Source};
use crate::endpoint::Endpoint;
use crate::net::{ClientError, HttpClient, error_chain};
use crate::proxy;

pub(super) const ISSUER_PATH: &str = "/.well-known/openid-configuration";
pub(super) const BACKEND_PATH: &str = "/models";
/// Services tell whole seconds, and requests take time.
const TOLERANCE: Duration = Duration::from_secs(60);

/// What became of a question.
pub(super) enum Probe {
    Answered { status: u16, clock: Option<ClockSkew> },
    Silent { cause: String },
}

/// How far this machine's clock is from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockSkew {
    Behind(Duration),
    Ahead(Duration),
}

impl Probe {
    pub(super) async fn of(http: &HttpClient, endpoint: &Endpoint, path: &str, user_agent: &str) -> Self {
        let asked = async {
            let client = http.client_for(endpoint).await.map_err(|error| error.to_string())?;
            let request = client.get(endpoint.join(path)).header(USER_AGENT, user_agent);
            request.send().await.map_err(|error| error_chain(&error))
        };
        match in_time(asked).await {
            Some(Ok(response)) => {
                let told = response.headers().get(DATE).and_then(|date| date.to_str().ok());
                let told = told.and_then(|date| httpdate::parse_http_date(date).ok());
                let clock = told.map(|told| ClockSkew::between(SystemClock.now(), told));
                Self::Answered { status: response.status().as_u16(), clock }
            }
            Some(Err(cause)) => Self::Silent { cause },
            None => Self::Silent { cause: format!("no answer within {} s", LIMIT.as_secs()) },
        }
    }

    pub(super) fn finding(&self, check: Check, endpoint: &Endpoint) -> Finding {
        let by_hand = || format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' {endpoint}");
        match self {
            Self::Answered { status: 500.., .. } => {
                Finding::warning(check, format!("{endpoint} has trouble of its own; try again later"), by_hand())
            }
            Self::Answered { .. } => Finding::ok(check, format!("{endpoint} answers")),
            Self::Silent { cause } => {
                let cause = cause.replace('\n', " ");
                Finding::error(check, format!("{endpoint} can't be reached ({cause})"), by_hand())
            }
        }
    }

    fn clock(&self) -> Option<ClockSkew> {
        match self {
            Self::Answered { clock, .. } => *clock,
            Self::Silent { .. } => None,
        }
    }
}

impl ClockSkew {
    fn between(here: SystemTime, there: SystemTime) -> Self {
        match there.duration_since(here) {
            Ok(behind) => Self::Behind(behind),
            Err(error) => Self::Ahead(error.duration()),
        }
    }

    fn size(self) -> Duration {
        match self {
            Self::Behind(size) | Self::Ahead(size) => size,
        }
    }
}

/// Holds this machine's clock against those of the services.
pub(super) fn clock(services: [&Probe; 2]) -> Finding {
    let told = services.into_iter().filter_map(Probe::clock).min_by_key(|difference| difference.size());
    let Some(difference) = told else {
        return Finding::unknown(Check::Clock, "no service told its time");
    };
    let minutes = (difference.size().as_secs() + 30) / 60;
    let wrong = |direction: &str| {
        let message = format!("{minutes} min {direction}; tokens are judged by the services' clocks until it is set");
        Finding::warning(Check::Clock, message, set_clock())
    };
    match difference {
        _ if difference.size() < TOLERANCE => Finding::ok(Check::Clock, "agrees with the services'"),
        ClockSkew::Behind(_) => wrong("behind"),
        ClockSkew::Ahead(_) => wrong("ahead"),
    }
}

fn set_clock() -> &'static str {
    match std::env::consts::OS {
        "macos" => "sudo sntp -sS time.apple.com",
        "windows" => "w32tm /resync",
        _ => "sudo timedatectl set-ntp true",
    }
}

/// The proxy and the certificates, which everything to the outside depends on.
pub(super) async fn network(config: &Config, http: &HttpClient, environment: &Environment) -> Finding {
    if let Err(error) = http.client_for(&config.upstream.url).await {
        let key = if matches!(error, ClientError::CaFile { .. }) { "upstream.ca_file" } else { "upstream.proxy" };
        let message = format!("{error}{}: mend it, or do without it, and start the daemon anew", set_in(config, key));
        return Finding::error(Check::Network, message, without(config, key));
    }
    let trust = match &config.net.ca_file {
        Some(file) => format!("the system's certificates and those of {}", file.display()),
        None => "the system's certificates".to_owned(),
    };
    let Some((source, address)) = proxy_in_use(config, environment) else {
        return Finding::ok(Check::Network, format!("no proxy; {trust}"));
    };
    let without = if source == "upstream.proxy" { without(config, &source) } else { unset(&source) };
    let source = format!("{source}{}", set_in(config, &source));
    let Some(place) = proxy::host_and_port(&address) else {
        return Finding::error(Check::Network, format!("{source} is not a proxy address"), without);
    };
    let cause = match in_time(TcpStream::connect(&place)).await {
        Some(Ok(_)) => return Finding::ok(Check::Network, format!("through the proxy {place} ({source}); {trust}")),
        Some(Err(error)) => error.to_string(),
        None => format!("no answer within {} s", LIMIT.as_secs()),
    };
    let message = format!(
        "the proxy {place} ({source}) can't be reached ({cause}): start it, or do without it and start the daemon anew"
    );
    Finding::error(Check::Network, message, without)
}

/// Where a setting of the outside was made.
fn set_in(config: &Config, key: &str) -> String {
    match source(config, key) {
        None | Some(Source::Default) => String::new(),
        Some(source) => format!(", set in {source}"),
    }
}

/// Takes a setting back, or shows it where it has to be taken out of a file.
fn without(config: &Config, key: &str) -> String {
    match source(config, key) {
        Some(Source::Variable(variable)) => unset(variable),
        _ => command("config show"),
    }
}

fn source<'c>(config: &'c Config, key: &str) -> Option<&'c Source> {
    config.shown.iter().find(|shown| shown.key == key).map(|shown| &shown.source)
}

fn proxy_in_use(config: &Config, environment: &Environment) -> Option<(String, String)> {
    if let Some(address) = &config.net.proxy {
        return Some(("upstream.proxy".to_owned(), address.clone()));
    }
    let set = |name: &&str| Some((*name).to_owned()).zip(environment.get(name)?.to_str().map(str::to_owned));
    proxy::VARIABLES.iter().filter_map(set).find(|(_, address)| !address.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::color::Coloring;
    use super::{ClockSkew, Probe, clock};

    fn told(difference: Option<ClockSkew>) -> String {
        let reach = Probe::Answered { status: 200, clock: difference };
        clock([&reach, &Probe::Silent { cause: String::new() }]).told(None, Coloring::Off)
    }

    #[test]
    fn a_clock_is_off_by_minutes_or_not_at_all() {
        assert!(told(Some(ClockSkew::Ahead(Duration::from_secs(59)))).starts_with("ok"));
        let behind = told(Some(ClockSkew::Behind(Duration::from_secs(3600))));
        assert!(behind.starts_with("warning") && behind.contains("60 min behind"), "{behind}");
        assert!(told(Some(ClockSkew::Ahead(Duration::from_secs(120)))).contains("2 min ahead"));
        assert!(told(None).starts_with("unknown"));
    }
}
