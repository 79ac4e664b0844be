use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{COPIES, FRAGMENT_BYTES, MeteredStream};
use crate::budget::ByteBudget;
use crate::error::ProxyError;
use crate::server::body::BodyLimits;

const MAX_PAUSE: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(300);
const MEMORY_BYTES: usize = 1 << 21;

fn metered() -> (MeteredStream<DuplexStream>, DuplexStream, Arc<ByteBudget>) {
    let (near, far) = duplex(1 << 20);
    let memory = Arc::new(ByteBudget::new(MEMORY_BYTES));
    let limits = BodyLimits { limit_bytes: 1 << 20, max_pause: MAX_PAUSE, memory: Arc::clone(&memory) };
    (MeteredStream::new(near, limits, Some(IDLE)), far, memory)
}

/// A masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
        length @ 126..0x1_0000 => {
            frame.push(0x80 | 0x7e);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        length => {
            frame.push(0x80 | 0x7f);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[tokio::test]
async fn messages_of_any_length_and_fragmentation_arrive_unchanged() {
    for length in [0, 1, 125, 126, 65_535, FRAGMENT_BYTES, FRAGMENT_BYTES + 1, 5 * FRAGMENT_BYTES + 7] {
        let (near, mut far, memory) = metered();
        let arrived = near.reservations();
        let text: String = (0..length).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
        let (start, rest) = text.as_bytes().split_at(length / 3);
        // The same text whole, and in two fragments with a ping between them.
        let wire = [
            frame(0x81, text.as_bytes()),
            frame(0x01, start),
            frame(0x89, b"?"),
            frame(0x80, rest),
            frame(0x89, b"end"),
        ];
        far.write_all(&wire.concat()).await.unwrap();
        let mut socket = WebSocketStream::from_raw_socket(near, Role::Server, None).await;
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text.clone()), "{length}");
        let first = arrived.take().unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Ping("?".into()), "{length}");
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text), "{length}");
        let second = arrived.take().unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Ping("end".into()), "{length}");
        drop((first, second));
        assert_eq!((memory.used_bytes(), arrived.take().is_none()), (0, true), "{length}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_frame_holds_received_bytes_and_times_out() {
    let (mut near, mut far, memory) = metered();
    let began = Instant::now();
    let whole = frame(0x81, &vec![b'x'; 900_000]);
    far.write_all(&whole[..100_014]).await.unwrap();
    let mut received = Vec::new();
    let error = near.read_to_end(&mut received).await.unwrap_err();
    let error = error.downcast::<ProxyError>().unwrap();
    assert!(matches!(error, ProxyError::BodyTooSlow { .. }), "{error}");
    assert_eq!((began.elapsed(), memory.used_bytes()), (MAX_PAUSE, COPIES * 100_000));
    drop(near);
    assert_eq!(memory.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_over_the_memory_limit_fails_after_a_second() {
    let (mut near, mut far, _memory) = metered();
    let (mut other, began) = (near.limits.memory.reserve(), Instant::now());
    assert!(other.try_set_buffered(MEMORY_BYTES - 100_000));
    far.write_all(&frame(0x81, &vec![b'x'; 900_000])).await.unwrap();
    let error = near.read_to_end(&mut Vec::new()).await.unwrap_err().downcast::<ProxyError>().unwrap();
    assert!(matches!(error, ProxyError::MemoryFull { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn idle_time_between_messages_has_its_own_limit() {
    let (mut near, mut far, _memory) = metered();
    let began = Instant::now();
    far.write_all(&frame(0x81, b"hi")).await.unwrap();
    let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (std::io::ErrorKind::TimedOut, IDLE));
}
