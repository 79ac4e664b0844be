//! The header of a WebSocket frame (RFC 6455, section 5.2): parses what is needed to split frames into fragments. Pure.

const FIN: u8 = 0x80;
const OPCODE: u8 = 0x0f;
/// Opcodes from here on are control frames, which can't be fragmented.
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
/// The length, or one of the two values below.
const LENGTH: u8 = 0x7f;
/// Length values that say that the length follows in two or eight bytes.
const TWO_BYTES: u8 = 0x7e;
const EIGHT_BYTES: u8 = 0x7f;

/// The header of a frame, as far as it has arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FrameHeader {
    bytes: [u8; FrameHeader::MAX_BYTES],
    filled: usize,
    /// Whether the first fragment has been split off, so that the next ones are continuation frames.
    is_continued: bool,
}

impl FrameHeader {
    /// Two bytes, a length of eight and a mask of four.
    pub(super) const MAX_BYTES: usize = 14;

    /// The number of bytes to read before more is known; zero if complete.
    pub(super) fn missing(&self) -> usize {
        (if self.filled < 2 { 2 } else { 2 + self.length_bytes() + self.mask_bytes() }) - self.filled
    }

    /// Adds bytes, at most as many as are missing.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(slot) = self.bytes.get_mut(self.filled) {
                *slot = *byte;
                self.filled += 1;
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    pub(super) fn is_control(&self) -> bool {
        self.bytes[0] & OPCODE >= CONTROL
    }

    /// Whether this is the last frame of a message.
    pub(super) fn ends_message(&self) -> bool {
        !self.is_control() && self.bytes[0] & FIN != 0
    }

    /// Length of the payload.
    pub(super) fn length(&self) -> u64 {
        let long = self.as_bytes().iter().skip(2).take(self.length_bytes());
        match self.length_bytes() {
            0 => u64::from(self.bytes[1] & LENGTH),
            _ => long.fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    /// The header of the next fragment, `length` bytes of the `left` remaining ones. The mask doesn't change, so
    /// fragments other than the last must be multiples of four bytes long.
    pub(super) fn fragment(&mut self, left: u64, length: u64) -> Vec<u8> {
        let mut first = self.bytes[0];
        if std::mem::replace(&mut self.is_continued, true) {
            first &= !OPCODE;
        }
        if length < left {
            first &= !FIN;
        }
        let mut header = vec![first];
        let is_masked = self.bytes[1] & MASKED;
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(length @ ..TWO_BYTES), _) => header.push(is_masked | length),
            (_, Ok(length)) => {
                header.push(is_masked | TWO_BYTES);
                header.extend(length.to_be_bytes());
            }
            _ => {
                header.push(is_masked | EIGHT_BYTES);
                header.extend(length.to_be_bytes());
            }
        }
        header.extend(self.as_bytes().iter().skip(2 + self.length_bytes()));
        header
    }

    fn length_bytes(&self) -> usize {
        match self.bytes[1] & LENGTH {
            TWO_BYTES => 2,
            EIGHT_BYTES => 8,
            _ => 0,
        }
    }

    fn mask_bytes(&self) -> usize {
        if self.bytes[1] & MASKED == 0 { 0 } else { 4 }
    }
}
