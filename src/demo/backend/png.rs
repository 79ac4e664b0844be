//! Generates the images of the simulated Images API, as PNG files.

use sha2::{Digest, Sha256};

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
/// Pixels per side of a square of the checkerboard.
const SQUARE: u32 = 8;
/// Maximum length of a stored deflate block.
const MAX_BLOCK_BYTES: usize = 0xffff;

/// Returns a checkerboard of `size` by `size` pixels, in white and a color that depends on the text.
pub(super) fn checkerboard(text: &str, size: u32) -> Vec<u8> {
    let digest = Sha256::digest(text);
    let header = [&size.to_be_bytes()[..], &size.to_be_bytes(), &[8, 3, 0, 0, 0]].concat();
    let palette = [&[0xff; 3][..], &digest[..3]].concat();
    let row = |y: u32| std::iter::once(0).chain((0..size).map(move |x| u8::from((x / SQUARE + y / SQUARE) % 2 == 1)));
    let pixels: Vec<u8> = (0..size).flat_map(row).collect();
    let chunks: [(&[u8; 4], Vec<u8>); 4] =
        [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib(&pixels)), (b"IEND", Vec::new())];
    chunks.iter().fold(SIGNATURE.to_vec(), |mut png, (kind, data)| {
        png.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        let start = png.len();
        png.extend_from_slice(*kind);
        png.extend_from_slice(data);
        let checksum = crc32(&png[start..]);
        png.extend(checksum.to_be_bytes());
        png
    })
}

/// Returns the data as a zlib stream of stored blocks.
fn zlib(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut blocks = data.chunks(MAX_BLOCK_BYTES).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        stream.push(u8::from(blocks.peek().is_none()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend_from_slice(block);
    }
    stream.extend(adler32(data).to_be_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !data.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

fn adler32(data: &[u8]) -> u32 {
    let (low, high) = data.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::ZlibDecoder;
    use tokio::io::AsyncReadExt as _;

    use super::{SIGNATURE, adler32, checkerboard, crc32};

    /// Returns the kinds and contents of the chunks. Fails if a checksum is wrong.
    fn chunks(mut rest: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut chunks = Vec::new();
        while let Some((length, tail)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
            let (chunk, tail) = tail.split_at(4 + length);
            let (checksum, tail) = tail.split_first_chunk().unwrap();
            assert_eq!(crc32(chunk), u32::from_be_bytes(*checksum));
            chunks.push((String::from_utf8(chunk[..4].to_vec()).unwrap(), chunk[4..].to_vec()));
            rest = tail;
        }
        assert!(rest.is_empty(), "{} bytes after the last chunk", rest.len());
        chunks
    }

    #[tokio::test]
    async fn an_image_is_a_valid_png() {
        // More than one block of pixels.
        let size = 300;
        let png = checkerboard("fox", size);
        let chunks = chunks(png.strip_prefix(&SIGNATURE).unwrap());
        let kinds: Vec<_> = chunks.iter().map(|(kind, data)| (kind.as_str(), data.len())).collect();
        assert_eq!(
            (&kinds[..2], kinds[2].0, &kinds[3..]),
            (&[("IHDR", 13), ("PLTE", 6)][..], "IDAT", &[("IEND", 0)][..])
        );
        assert_eq!(chunks[0].1, [&size.to_be_bytes()[..], &size.to_be_bytes(), &[8, 3, 0, 0, 0]].concat());
        let mut pixels = Vec::new();
        ZlibDecoder::new(chunks[2].1.as_slice()).read_to_end(&mut pixels).await.unwrap();
        // Each row begins with the number of its filter.
        assert_eq!(pixels.len(), 300 * 301);
        assert!(pixels.chunks(301).all(|row| row[0] == 0 && row[1..].iter().all(|color| *color <= 1)));
    }

    #[test]
    fn checksums_have_their_standard_values() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn images_depend_on_the_text_only() {
        assert_eq!(checkerboard("fox", 16), checkerboard("fox", 16));
        assert_ne!(checkerboard("fox", 16), checkerboard("dog", 16));
    }
}
