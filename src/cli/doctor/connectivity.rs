//! Checks that proxy, issuer and backend can be reached, and compares the local clock with theirs.
//!
//! The requests carry no token, so they work without a login; any response shows that the service can be reached.

use std::time::{Duration, SystemTime};

use http::header::{DATE, USER_AGENT};
use tokio::net::TcpStream;

use super::finding::{Check, Finding};
use super::{TIMEOUT, in_time};
use crate::clock::{Clock as _, SystemClock};
use crate::command_hint::{command, unset};
use crate::config::{Config, Environment, ValueSource};
use crate::endpoint::Endpoint;
use crate::net::{ClientError, HttpClient, error_chain};
use crate::proxy;

/// Requested to find out whether the service responds.
pub(super) const ISSUER_PATH: &str = "/.well-known/openid-configuration";
pub(super) const BACKEND_PATH: &str = "/models";
/// A smaller clock skew is ignored: `Date` headers have a resolution of a second, and requests take time.
const TOLERANCE: Duration = Duration::from_secs(60);

/// The result of a request to a service.
pub(super) enum Probe {
    Answered {
        status: u16,
        clock: Option<ClockSkew>,
    },
    /// The request failed or timed out.
    Silent {
        cause: String,
    },
}

/// The difference between the local clock and that of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockSkew {
    Behind(Duration),
    Ahead(Duration),
}

impl Probe {
    pub(super) async fn of(http: &HttpClient, endpoint: &Endpoint, path: &str, user_agent: &str) -> Self {
        let response = async {
            let client = http.client_for(endpoint).await.map_err(|error| error.to_string())?;
            let request = client.get(endpoint.join(path)).header(USER_AGENT, user_agent);
            request.send().await.map_err(|error| error_chain(&error))
        };
        match in_time(response).await {
            Some(Ok(response)) => {
                let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
                let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
                let clock = date.map(|date| ClockSkew::between(SystemClock.now(), date));
                Self::Answered { status: response.status().as_u16(), clock }
            }
            Some(Err(cause)) => Self::Silent { cause },
            None => Self::Silent { cause: format!("no response within {} s", TIMEOUT.as_secs()) },
        }
    }

    pub(super) fn finding(&self, check: Check, endpoint: &Endpoint) -> Finding {
        let curl = || format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' {endpoint}");
        match self {
            Self::Answered { status: 500.., .. } => {
                Finding::warning(check, format!("{endpoint} reports a server error. Try again later"), curl())
            }
            Self::Answered { .. } => Finding::ok(check, format!("{endpoint} responds")),
            Self::Silent { cause } => {
                let cause = cause.replace('\n', " ");
                let message = format!("can't reach {endpoint} ({cause}). Check your network and proxy, and try");
                Finding::error(check, message, curl())
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

/// Compares the local clock with those of the services.
pub(super) fn clock(services: [&Probe; 2]) -> Finding {
    let Some(skew) = services.into_iter().filter_map(Probe::clock).min_by_key(|skew| skew.size()) else {
        return Finding::unknown(Check::Clock, "no service reported its time");
    };
    let minutes = (skew.size().as_secs() + 30) / 60;
    let warning = |direction: &str| {
        let message = format!("{minutes} min {direction}; the services' clocks are used for token expiry. Set it with");
        Finding::warning(Check::Clock, message, set_clock())
    };
    match skew {
        _ if skew.size() < TOLERANCE => Finding::ok(Check::Clock, "in sync with the services"),
        ClockSkew::Behind(_) => warning("behind"),
        ClockSkew::Ahead(_) => warning("ahead"),
    }
}

fn set_clock() -> &'static str {
    match std::env::consts::OS {
        "macos" => "sudo sntp -sS time.apple.com",
        "windows" => "w32tm /resync",
        _ => "sudo timedatectl set-ntp true",
    }
}

/// Checks the proxy and the CA file.
pub(super) async fn network(config: &Config, http: &HttpClient, environment: &Environment) -> Finding {
    if let Err(error) = http.client_for(&config.upstream.url).await {
        let key = if matches!(error, ClientError::CaFile { .. }) { "upstream.ca_file" } else { "upstream.proxy" };
        let message = format!("{error}{}. Fix or remove it, and restart the daemon", set_in(config, key));
        return Finding::error(Check::Network, message, unset_command(config, key));
    }
    let trust = match &config.net.ca_file {
        Some(file) => format!("the system's certificates and those of {}", file.display()),
        None => "the system's certificates".to_owned(),
    };
    let Some((source, address)) = proxy_in_use(config, environment) else {
        return Finding::ok(Check::Network, format!("no proxy; {trust}"));
    };
    let fix = if source == "upstream.proxy" { unset_command(config, &source) } else { unset(&source) };
    let source = format!("{source}{}", set_in(config, &source));
    let Some(host) = proxy::host_and_port(&address) else {
        return Finding::error(Check::Network, format!("{source} is not a proxy address"), fix);
    };
    let cause = match in_time(TcpStream::connect(&host)).await {
        Some(Ok(_)) => return Finding::ok(Check::Network, format!("through the proxy {host} ({source}); {trust}")),
        Some(Err(error)) => error.to_string(),
        None => format!("no response within {} s", TIMEOUT.as_secs()),
    };
    let message = format!(
        "can't reach the proxy {host} ({source}): {cause}. Start it, or unset the proxy and restart the daemon"
    );
    Finding::error(Check::Network, message, fix)
}

/// Returns `, set in SOURCE`, unless the setting has its default.
fn set_in(config: &Config, key: &str) -> String {
    match source(config, key) {
        None | Some(ValueSource::Default) => String::new(),
        Some(source) => format!(", set in {source}"),
    }
}

/// Returns the command that unsets a setting, or shows it if it is in a file.
fn unset_command(config: &Config, key: &str) -> String {
    match source(config, key) {
        Some(ValueSource::Variable(variable)) => unset(variable),
        _ => command("config show"),
    }
}

/// Returns where the value of a setting comes from.
fn source<'c>(config: &'c Config, key: &str) -> Option<&'c ValueSource> {
    config.effective.iter().find(|shown| shown.key == key).map(|shown| &shown.source)
}

/// Returns the setting or the variable that names the proxy, and its value.
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

    fn line(skew: Option<ClockSkew>) -> String {
        let probe = Probe::Answered { status: 200, clock: skew };
        clock([&probe, &Probe::Silent { cause: String::new() }]).format(None, Coloring::Off)
    }

    #[test]
    fn a_skew_of_less_than_a_minute_is_ignored() {
        assert!(line(Some(ClockSkew::Ahead(Duration::from_secs(59)))).starts_with("ok"));
        let behind = line(Some(ClockSkew::Behind(Duration::from_secs(3600))));
        assert!(behind.starts_with("warning") && behind.contains("60 min behind"), "{behind}");
        assert!(line(Some(ClockSkew::Ahead(Duration::from_secs(120)))).contains("2 min ahead"));
        assert!(line(None).starts_with("unknown"));
    }
}
