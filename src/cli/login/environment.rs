//! Where a login is started: before a display, without one, or from another machine.

use crate::config::Environment;

/// What a browser would find here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrowserAccess {
    /// A display.
    Display,
    /// No display.
    NoDisplay,
    /// A shell that is used from another machine.
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

    /// Why no browser can be opened here.
    pub(super) fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Display => None,
            Self::NoDisplay => Some("there is no display here"),
            Self::Remote => Some("this session is remote"),
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
    fn a_remote_shell_is_remote_even_with_a_display() {
        assert_eq!(of(&[("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22"), ("DISPLAY", ":10")]), BrowserAccess::Remote);
        assert_eq!(of(&[("SSH_TTY", "/dev/pts/1")]), BrowserAccess::Remote);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_display_of_either_kind_will_do() {
        assert_eq!(of(&[("DISPLAY", ":0")]), BrowserAccess::Display);
        assert_eq!(of(&[("WAYLAND_DISPLAY", "wayland-0")]), BrowserAccess::Display);
        assert_eq!(of(&[("DISPLAY", "")]), BrowserAccess::NoDisplay);
    }
}
