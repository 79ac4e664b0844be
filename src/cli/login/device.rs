//! Signing in with a code that is typed on another device.

use std::io::IsTerminal;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::super::progress;
use super::{Parts, talk};
use crate::auth::{Credential, DeviceLogin, LoginError};
use crate::config::Environment;

/// Black on white, whatever the terminal's colours: not every camera reads the inverse.
const PAPER: &str = "\u{1b}[30;107m";
const PLAIN: &str = "\u{1b}[0m";

pub(super) async fn sign_in(parts: &Parts, environment: &Environment) -> Result<Credential, LoginError> {
    let started = DeviceLogin::start(parts.authority.clone(), parts.store.clone(), std::sync::Arc::clone(&parts.clock));
    let login = progress::told("asking the issuer for a code", started).await?;
    talk("open this address on any device, sign in, and type the code:");
    talk(&format!("\n  {}\n  {}\n", login.url(), login.user_code()));
    let has_colours = environment.get("NO_COLOR").is_none_or(std::ffi::OsStr::is_empty)
        && environment.get("TERM").is_some_and(|term| term != "dumb");
    if has_colours && std::io::stderr().is_terminal() {
        talk(&picture(login.url()).join("\n"));
    }
    talk("the code is good for 15 minutes; give it to nobody. Waiting (Ctrl-C gives up) …");
    login.wait().await
}

/// The address as a picture for a camera; nothing where it does not fit into one.
fn picture(url: &str) -> Vec<String> {
    let Ok(code) = QrCode::new(url) else { return Vec::new() };
    let text = code.render::<Dense1x2>().quiet_zone(true).build();
    text.lines().map(|line| format!("  {PAPER}{line}{PLAIN}")).collect()
}

#[cfg(test)]
mod tests {
    use super::picture;

    #[test]
    fn the_picture_is_a_square_with_a_margin() {
        let lines = picture("https://auth.openai.com/codex/device");
        let widths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
        let modules = widths[0] - "  \u{1b}[30;107m\u{1b}[0m".chars().count();
        assert!(modules.abs_diff(2 * lines.len()) <= 1, "{modules} {}", lines.len());
        assert!(!lines[0].contains('\u{2588}'), "{}", lines[0]);
    }
}
