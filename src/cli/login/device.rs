//! Signing in with a code that the user types on another device.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Color, Style};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::super::color::is_disabled;
use super::super::progress;
use super::{Context, eprint};
use crate::auth::{Credential, DeviceLogin, LoginError};
use crate::config::Environment;

/// Black on white, whatever the terminal's colors are: not every camera reads the inverse.
const QR_STYLE: Style =
    Style::new().fg_color(Some(Color::Ansi(AnsiColor::Black))).bg_color(Some(Color::Ansi(AnsiColor::BrightWhite)));

pub(super) async fn sign_in(context: &Context, environment: &Environment) -> Result<Credential, LoginError> {
    let started =
        DeviceLogin::start(context.issuer.clone(), context.store.clone(), std::sync::Arc::clone(&context.clock));
    let login = progress::during("requesting a device code", started).await?;
    eprint("Open this address on any device, sign in, and enter the code:");
    eprint(&format!("\n  {}\n  {}\n", login.url(), login.user_code()));
    let has_colors = !is_disabled(environment) && environment.get("TERM").is_some_and(|term| term != "dumb");
    if has_colors && std::io::stderr().is_terminal() {
        eprint(&qr_code(login.url()).join("\n"));
    }
    eprint("The code is valid for 15 minutes. Don't share it. Waiting (Ctrl-C cancels) …");
    login.wait().await
}

/// Returns the lines of a QR code; none if the URL is too long for one.
fn qr_code(url: &str) -> Vec<String> {
    let Ok(code) = QrCode::new(url) else { return Vec::new() };
    let text = code.render::<Dense1x2>().quiet_zone(true).build();
    text.lines().map(|line| format!("  {QR_STYLE}{line}{QR_STYLE:#}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{QR_STYLE, qr_code};

    #[test]
    fn the_qr_code_is_a_square_with_a_margin() {
        let lines = qr_code("https://auth.openai.com/codex/device");
        let widths: Vec<_> = lines.iter().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
        let modules = widths[0] - format!("  {QR_STYLE}{QR_STYLE:#}").chars().count();
        assert!(modules.abs_diff(2 * lines.len()) <= 1, "{modules} {}", lines.len());
        assert!(!lines[0].contains('\u{2588}'), "{}", lines[0]);
    }
}
