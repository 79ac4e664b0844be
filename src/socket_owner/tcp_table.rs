//! Reads the kernel's tables of TCP sockets (`/proc/self/net/tcp` and `tcp6`). Linux only. Blocks.
//!
//! A table that can't be read counts as empty.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};

/// IPv4 and IPv6. IPv6 sockets with an IPv4 peer are listed in the second table.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
const LISTENING: &str = "0A";

/// One socket. IPv4-mapped addresses are converted to IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) is_listening: bool,
    /// User that opened the socket. Zero if no process has it open anymore.
    pub(super) uid: u32,
    /// Zero if no process has the socket open anymore.
    pub(super) inode: u64,
}

/// Lists the TCP sockets of this network namespace.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    let files = TABLES.iter().filter_map(|table| File::open(table).ok());
    let lines = files.flat_map(|file| BufReader::new(file).lines().map_while(Result::ok));
    lines.filter_map(|line| Row::parse(&line))
}

impl Row {
    /// Parses a line. `None` for the heading and for lines that can't be parsed.
    fn parse(line: &str) -> Option<Self> {
        // Slot, local and remote address, state, queues, timer, retransmits, uid, timeout, inode.
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
        let is_listening = fields.next()? == LISTENING;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Self { local, remote, is_listening, uid, inode })
    }
}

/// Parses an address: 32-bit words in host byte order, and the port, all in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |start: usize| Some(u32::from_str_radix(ip.get(start..start + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut octets = [0; 16];
            for (index, quad) in octets.chunks_exact_mut(4).enumerate() {
                quad.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::from(octets).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::Row;

    /// Formats an address as the kernel does.
    fn words(octets: &[u8]) -> String {
        let words = octets.as_chunks::<4>().0.iter();
        words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect::<Vec<_>>().concat()
    }

    #[test]
    fn rows_of_both_families_are_parsed() {
        let line = format!(
            "  12: {}:C350 {}:2253 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000000000000000 20 4 30 10 -1",
            words(&[127, 0, 0, 1]),
            words(&[127, 0, 0, 2]),
        );
        let row = Row::parse(&line).unwrap();
        assert_eq!(
            (row.local.to_string(), row.remote.to_string()),
            ("127.0.0.1:50000".into(), "127.0.0.2:8787".into())
        );
        assert_eq!((row.is_listening, row.uid, row.inode), (false, 1000, 4242));

        let mut loopback = [0; 16];
        loopback[15] = 1;
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        let line = format!(
            "10000: {}:C350 {}:2253 0A 00000000:00000000 00:00000000 00000000 65534 0 0 1 0 20 4 30 10 -1",
            words(&loopback),
            words(&mapped),
        );
        let row = Row::parse(&line).unwrap();
        assert_eq!((row.local.to_string(), row.remote.to_string()), ("[::1]:50000".into(), "127.0.0.1:8787".into()));
        assert_eq!((row.is_listening, row.uid, row.inode), (true, 65534, 0));
    }

    #[test]
    fn other_lines_are_skipped() {
        for line in [
            "",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "   0: 0100007F 0100007F:2253 01 0:0 0:0 0 0 0 1",
            "   0: 0100007F:C350 01:2253 01 0:0 0:0 0 0 0 1",
            "   0: 0100007F:C350 0100007F:2253 01 0:0 0:0 0 x 0 1",
            "   0: 0100007F:C350 0100007F:2253 01 0:0 0:0 0 0",
        ] {
            assert_eq!(Row::parse(line), None, "{line}");
        }
    }
}
