//! The environment variables that name an HTTP proxy, and how to show their values.

use url::Url;

/// Variables that name a proxy for https requests, in order of precedence.
pub const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Returns the `host:port` of a proxy address, without credentials. `None` if it isn't a proxy address.
#[must_use]
pub fn host_and_port(address: &str) -> Option<String> {
    let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = Url::parse(&address).ok()?;
    let default = if url.scheme().starts_with("socks") { 1080 } else { url.port_or_known_default()? };
    Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let addresses =
            ["http://me:secret@proxy.invalid:3128", "proxy.invalid:3128", "socks5h://proxy.invalid", "https://p"];
        let expected = ["proxy.invalid:3128", "proxy.invalid:3128", "proxy.invalid:1080", "p:443"];
        assert_eq!(addresses.map(|address| host_and_port(address).unwrap()), expected);
        for wrong in ["::", "http://127.0.0.1:notaport", "127.0.0.1:99999", "http://"] {
            assert_eq!(host_and_port(wrong), None, "{wrong}");
        }
    }
}
