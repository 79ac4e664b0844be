//! Detects whether a browser can be opened for the user.

use crate::config::Environment;

/// Whether a browser can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrowserAccess {
    /// It can: the platform needs no display server, or there is one.
    Display,
    NoDisplay,
    /// An SSH session, whose browser is on another machine.
    Remote,
}

impl BrowserAccess {
    pub(super) fn of(environment: &Environment) -> Self {
        let has = |name: &str| environment.get(name).is_some_and(|value| !value.is_empty());
        let needs_display = cfg!(all(unix, not(target_os = "macos")));
        if has("SSH_CONNECTION") || has("SSH_TTY") {
            Self::Remote
        } else if needs_display && !has("DISPLAY") && !has("WAYLAND_DISPLAY") {
            Self::NoDisplay
        } else {
            Self::Display
        }
    }

    /// Why no browser can be opened, as the beginning of a sentence.
    pub(super) fn no_browser_reason(self) -> Option<&'static str> {
        match self {
            Self::Display => None,
            Self::NoDisplay => Some("No display is available"),
            Self::Remote => Some("This is a remote session"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BrowserAccess;

    fn of(variables: &[(&str, &str)]) -> BrowserAccess {
        BrowserAccess::of(&variables.iter().copied().collect())
    }

    #[test]
    fn an_ssh_session_is_remote_even_with_a_display() {
        assert_eq!(of(&[("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22"), ("DISPLAY", ":10")]), BrowserAccess::Remote);
        assert_eq!(of(&[("SSH_TTY", "/dev/pts/1")]), BrowserAccess::Remote);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn x11_and_wayland_displays_are_detected() {
        assert_eq!(of(&[("DISPLAY", ":0")]), BrowserAccess::Display);
        assert_eq!(of(&[("WAYLAND_DISPLAY", "wayland-0")]), BrowserAccess::Display);
        assert_eq!(of(&[("DISPLAY", "")]), BrowserAccess::NoDisplay);
    }
}
