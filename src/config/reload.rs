//! Which settings a running daemon takes over when they are read again, and which it can't.

use super::Config;

/// Keys that take effect at once.
const LIVE: [&str; 8] = [
    "keys",
    "allowed_hosts",
    "allowed_origins",
    "allow_other_users",
    "default_model",
    "model_aliases",
    "routes",
    "log.level",
];

/// The keys that differ and take effect at the next start only.
#[must_use]
pub fn unapplied(running: &Config, read: &Config) -> Vec<&'static str> {
    let is_live = |key: &str| LIVE.contains(&key);
    // The listing hides a password in the proxy's address.
    let is_hidden = |key: &str| key == "upstream.proxy" && running.net.proxy != read.net.proxy;
    let pairs = running.shown.iter().zip(&read.shown);
    let differing = pairs.filter(|(running, read)| running.value != read.value || is_hidden(read.key));
    differing.map(|(_, read)| read.key).filter(|key| !is_live(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::LIVE;
    use crate::config::layer::KEYS;

    #[test]
    fn live_keys_are_keys() {
        for live in LIVE {
            assert!(KEYS.iter().any(|key| key.path == live), "{live}");
        }
    }
}
