//! Reads a secret line from the terminal.
//!
//! In canonical mode, a terminal truncates a line at 4095 bytes (1024 on macOS), and access tokens can be longer. So
//! the line is read byte by byte, without echo, and the most important editing keys are handled here. The terminal's
//! mode is restored afterwards, also after an error.

use std::io::{self, BufRead, Read as _, StdinLock};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

/// The effect of an input byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// The line was edited and isn't complete.
    Edit,
    Enter,
    Interrupt,
}

/// A terminal in noncanonical mode. Dropping it restores the previous mode.
struct Unbuffered<'a> {
    terminal: StdinLock<'a>,
    before: Termios,
}

impl Unbuffered<'_> {
    fn new() -> io::Result<Self> {
        let terminal = io::stdin().lock();
        let before = tcgetattr(&terminal)?;
        let mut mode = before.clone();
        // Ctrl-C arrives as a byte: a signal would end the process with the echo still off.
        mode.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        mode.special_codes[SpecialCodeIndex::VMIN] = 1;
        mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        // `Now` keeps input that was typed before.
        tcsetattr(&terminal, OptionalActions::Now, &mode)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Unbuffered<'_> {
    fn drop(&mut self) {
        // Fails if the terminal was closed; there is nothing to restore then.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Reads a line of at most `limit_bytes`; `prompt` runs once the terminal is ready for it.
///
/// # Errors
/// If the terminal can't be read, the line is too long, or the user presses Ctrl-C.
pub(super) fn read_line(limit_bytes: u64, prompt: impl FnOnce()) -> io::Result<String> {
    let mut unbuffered = Unbuffered::new()?;
    prompt();
    let line = read(&mut unbuffered.terminal, limit_bytes)?;
    String::from_utf8(line).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the input is not UTF-8"))
}

fn read(terminal: &mut impl BufRead, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    for byte in terminal.bytes() {
        match press(&mut line, byte?) {
            Key::Enter => break,
            Key::Interrupt => return Err(io::Error::new(io::ErrorKind::Interrupted, "the login was canceled")),
            Key::Edit if line.len() as u64 > limit_bytes => {
                let message = format!("the input is longer than {limit_bytes} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            Key::Edit => {}
        }
    }
    Ok(line)
}

/// Applies an input byte to the line.
fn press(line: &mut Vec<u8>, byte: u8) -> Key {
    const CTRL_C: u8 = 0x03;
    const CTRL_D: u8 = 0x04;
    const CTRL_U: u8 = 0x15;
    const DELETE: u8 = 0x7f;
    const BACKSPACE: u8 = 0x08;
    match byte {
        b'\n' | b'\r' | CTRL_D => return Key::Enter,
        CTRL_C => return Key::Interrupt,
        CTRL_U => line.clear(),
        DELETE | BACKSPACE => drop(line.pop()),
        _ => line.push(byte),
    }
    Key::Edit
}

#[cfg(test)]
mod tests {
    use super::read;

    fn line(keys: &str) -> Result<String, String> {
        let line = read(&mut keys.as_bytes(), 8).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(line).unwrap())
    }

    #[test]
    fn a_line_ends_with_enter_and_can_be_edited() {
        for (keys, want) in [
            ("at-1\nrest", "at-1"),
            ("at-1\r", "at-1"),
            ("at-1\u{4}", "at-1"),
            ("at-1", "at-1"),
            ("ab\u{7f}\u{8}\u{8}at-1\n", "at-1"),
            ("wrong\u{15}at-1\n", "at-1"),
            ("12345678\n", "12345678"),
        ] {
            assert_eq!(line(keys).as_deref(), Ok(want), "{keys:?}");
        }
    }

    #[test]
    fn an_interrupt_and_a_line_without_end_are_errors() {
        assert!(line("at-\u{3}1\n").unwrap_err().contains("canceled"));
        assert!(line("123456789").unwrap_err().contains("longer than 8 bytes"));
    }
}
