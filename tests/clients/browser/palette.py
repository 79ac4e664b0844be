"""Converts screenshots of text to PNG with a palette, a third of the size."""

import base64
import json
import struct
import zlib

# Colors are rounded to 32 steps per channel, which is invisible at the edges of letters.
PIXELS = """(async () => {
    const image = new Image();
    image.src = "data:image/png;base64," + DATA;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
    pen.drawImage(image, 0, 0);
    const values = pen.getImageData(0, 0, image.width, image.height).data, places = new Map(), parts = [];
    const rounded = (at) => Math.min(255, (values[at] + 4) >> 3 << 3);
    for (let row = 0; row < image.height; row++) {
        const line = [];
        for (let at = row * image.width * 4; at < (row + 1) * image.width * 4; at += 4) {
            const colour = rounded(at) << 16 | rounded(at + 1) << 8 | rounded(at + 2);
            if (!places.has(colour)) places.set(colour, places.size);
            line.push(places.get(colour));
        }
        parts.push(btoa(String.fromCharCode(0, ...line)));
    }
    return {width: image.width, height: image.height, colours: [...places.keys()], lines: parts};
})()"""


def with_palette(browser, png):
    """Converts a picture; runs in the current page of the browser."""
    read = browser.value(PIXELS.replace("DATA", json.dumps(base64.b64encode(png).decode())))
    if len(read["colours"]) > 256:
        raise AssertionError(f"a palette has 256 colours, and this needs {len(read['colours'])}")
    head = struct.pack(">IIBBBBB", read["width"], read["height"], 8, 3, 0, 0, 0)
    colours = b"".join(colour.to_bytes(3, "big") for colour in read["colours"])
    lines = b"".join(base64.b64decode(line) for line in read["lines"])
    chunks = [(b"IHDR", head), (b"PLTE", colours), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
