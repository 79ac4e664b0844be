//! Distinguishes the settings that a reload of the daemon applies from those that need a restart.

use super::Config;

/// Settings that a reload applies.
const RELOADABLE: [&str; 8] = [
    "keys",
    "allowed_hosts",
    "allowed_origins",
    "allow_other_users",
    "default_model",
    "model_aliases",
    "routes",
    "log.level",
];

/// Returns the names of the settings that differ between the running configuration and the one just read, and take
/// effect only after a restart.
#[must_use]
pub fn needing_restart(running: &Config, read: &Config) -> Vec<&'static str> {
    let is_reloadable = |key: &str| RELOADABLE.contains(&key);
    // `EffectiveSetting` masks the password in a proxy's address, so compare the address itself.
    let differs_in_password = |key: &str| key == "upstream.proxy" && running.net.proxy != read.net.proxy;
    let pairs = running.effective.iter().zip(&read.effective);
    let differing = pairs.filter(|(running, read)| running.value != read.value || differs_in_password(read.key));
    differing.map(|(_, read)| read.key).filter(|key| !is_reloadable(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::RELOADABLE;
    use crate::config::schema::KEYS;

    #[test]
    fn reloadable_settings_are_settings() {
        for key in RELOADABLE {
            assert!(KEYS.iter().any(|setting| setting.path == key), "{key}");
        }
    }
}
