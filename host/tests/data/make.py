"""Writes the images that the decoder's tests read, and beside each the RGB bytes that Pillow makes of it.

    python make.py        # Pillow 13.0, numpy 2.4

The 16-bit images are encoded here, for Pillow cannot write them.
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

FOLDER = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 20, 12


def png16(samples: np.ndarray) -> bytes:
    colour_type = {1: 0, 3: 2, 4: 6}[samples.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(name: str, data: bytes, rgb: np.ndarray | None = None) -> None:
    if rgb is None:
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert rgb.shape == (HEIGHT, WIDTH, 3) and rgb.dtype == np.uint8, name
    (FOLDER / name).write_bytes(data)
    (FOLDER / f"{name}.rgb").write_bytes(rgb.tobytes())


y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
waves = [127.5 + 120 * np.sin(x / 5 + 1), 127.5 + 120 * np.cos(y / 4), 127.5 + 120 * np.sin((x + y) / 6)]
alpha = 255 * x / (WIDTH - 1)
colour = Image.fromarray(np.stack(waves, 2).astype(np.uint8))
with_alpha = Image.fromarray(np.stack([*waves, alpha], 2).astype(np.uint8), "RGBA")
palette = colour.quantize(13)
wide = (np.stack([*waves, alpha], 2) * 257).astype(np.uint16)

write("colour.bmp", encoded(colour, "BMP"))
write("palette.bmp", encoded(palette, "BMP"))
write("bits-16.png", png16(wide[:, :, :3]))
write("bits-16-alpha.png", png16(wide))
# Pillow cuts 16-bit grey at 255 instead of scaling it; the high byte is what it takes of 16-bit colour.
write("bits-16-grey.png", png16(wide[:, :, :1]), np.repeat((wide[:, :, :1] >> 8).astype(np.uint8), 3, 2))
write("palette-transparent.png", encoded(palette, "PNG", transparency=3))
write("black-and-white.png", encoded(colour.convert("1"), "PNG"))
write("grey-alpha.png", encoded(with_alpha.convert("LA"), "PNG"))
write("alpha.png", encoded(with_alpha, "PNG"))
write("lossless.webp", encoded(colour, "WEBP", lossless=True))
write("lossy.webp", encoded(colour, "WEBP", quality=80))
write("grey.jpg", encoded(colour.convert("L"), "JPEG", quality=90))
write("cmyk.jpg", encoded(colour.convert("CMYK"), "JPEG", quality=90))
# The same bytes read as YCCK: in Adobe's segment the last byte tells which of the two they are.
cmyk = bytearray(encoded(colour.convert("CMYK"), "JPEG", quality=90))
cmyk[cmyk.index(b"Adobe") + 11] = 2
write("ycck.jpg", bytes(cmyk))
write("progressive-420.jpg", encoded(colour, "JPEG", quality=90, progressive=True, subsampling="4:2:0"))
write("a-jpeg.png", encoded(colour, "JPEG", quality=90))
