//! The variables that name a proxy, and what their values come to.

use url::Url;

/// Where programs are told about a proxy for https, in the order in which they count.
pub const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Host and port of a proxy, without the credentials that may stand before them; `None` for what is no
/// proxy address.
#[must_use]
pub fn place(address: &str) -> Option<String> {
    let address = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let url = Url::parse(&address).ok()?;
    let usual = if url.scheme().starts_with("socks") { 1080 } else { url.port_or_known_default()? };
    Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_proxy_is_shown_without_its_password() {
        let places =
            ["http://me:secret@proxy.invalid:3128", "proxy.invalid:3128", "socks5h://proxy.invalid", "https://p"];
        let expected = ["proxy.invalid:3128", "proxy.invalid:3128", "proxy.invalid:1080", "p:443"];
        assert_eq!(places.map(|address| place(address).unwrap()), expected);
        for wrong in ["::", "http://127.0.0.1:notaport", "127.0.0.1:99999", "http://"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
