//! Bodies that are compressed and flushed in pieces.

use async_compression::tokio::write::{GzipEncoder, ZstdEncoder};
use futures_util::FutureExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// The compressed pieces, each with all that is needed to decode it; the last piece is the end of the frame.
pub(crate) fn compressed(encoding: &str, texts: &[impl AsRef<[u8]>]) -> Vec<Vec<u8>> {
    let pieces = async {
        match encoding {
            "gzip" => pieces(GzipEncoder::new(Vec::new()), GzipEncoder::get_mut, texts).await,
            "zstd" => pieces(ZstdEncoder::new(Vec::new()), ZstdEncoder::get_mut, texts).await,
            other => panic!("no such encoding: {other}"),
        }
    };
    pieces.now_or_never().expect("a vector never blocks")
}

async fn pieces<E: AsyncWrite + Unpin>(
    mut encoder: E,
    output: fn(&mut E) -> &mut Vec<u8>,
    texts: &[impl AsRef<[u8]>],
) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for text in texts {
        encoder.write_all(text.as_ref()).await.unwrap();
        encoder.flush().await.unwrap();
        pieces.push(std::mem::take(output(&mut encoder)));
    }
    encoder.shutdown().await.unwrap();
    pieces.push(std::mem::take(output(&mut encoder)));
    pieces
}
