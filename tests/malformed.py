"""Malformed and hostile pictures, generated from a seed, for tests of the decoder.

``corpus`` returns a few hundred small files by name; `tests.heavy_pictures` has those that would need much time or
memory.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tests.picture_bytes import (
    PNG,
    after_start,
    chunk,
    exif,
    header,
    jpeg_boundaries,
    noise,
    png,
    png_boundaries,
    repeated_scan,
    rows,
    saved,
    segment,
)

SECRET = "Mustermann^Erika"  # a patient's name in metadata; no message may quote it


def corpus() -> dict[str, bytes]:
    """Return all small files by name."""
    files: dict[str, bytes] = {}
    groups = (_cut, _flipped, _png_wrong_fields, _png_contents, _jpeg_wrong_fields, _jpeg_contents, _other_formats)
    for group in (*groups, _valid):
        for name, content in group():
            assert name not in files, name
            files[name] = content
    return files


def _cut() -> Iterator[tuple[str, bytes]]:
    for name, content, boundaries in (
        ("png", saved(noise(), "PNG"), png_boundaries),
        ("jpeg", saved(noise()), jpeg_boundaries),
        ("progressive jpeg", saved(noise(), progressive=True), jpeg_boundaries),
    ):
        for place in sorted(set(boundaries(content)) - {0}):
            yield f"{name} cut at {place}", content[:place]


def _flipped() -> Iterator[tuple[str, bytes]]:
    for name, content in (
        ("png", saved(noise(), "PNG")),
        ("jpeg", saved(noise())),
        ("palette png", saved(noise("P"), "PNG")),
    ):
        draw = np.random.default_rng(7)
        for number in range(20):
            changed = bytearray(content)
            for place in draw.integers(3, len(content), 1 + number % 4):
                changed[place] ^= int(draw.integers(1, 256))
            yield f"{name} with flipped bytes {number}", bytes(changed)


def _png_wrong_fields() -> Iterator[tuple[str, bytes]]:
    data, end = chunk(b"IDAT", rows(16, 16)), chunk(b"IEND")
    for sides in (
        (0, 0),
        (0, 16),
        (16, 0),
        (2**31 - 1, 2**31 - 1),
        (2**32 - 1, 1),
        (1, 2**31),
        (65_535, 65_535),
        (17, 17),
    ):
        yield f"png of {sides[0]} x {sides[1]} by its header", PNG + header(*sides) + data + end
    for depth, colour in ((0, 2), (3, 2), (32, 2), (255, 255), (16, 3), (1, 2), (8, 1), (8, 5), (8, 7)):
        yield f"png of depth {depth} and colour {colour}", PNG + header(16, 16, depth, colour) + data + end
    for rest in ((1, 0, 0), (0, 1, 0), (0, 0, 2), (255, 255, 255)):
        yield f"png of methods {rest}", PNG + header(16, 16, 8, 2, *rest) + data + end
    for name, crc in (("zero", 0), ("ones", 2**32 - 1)):
        yield (
            f"png whose header has a checksum of {name}",
            PNG + chunk(b"IHDR", header(16, 16)[8:21], crc=crc) + data + end,
        )
        yield (
            f"png whose data has a checksum of {name}",
            png()[: -len(data + end)] + chunk(b"IDAT", rows(16, 16), crc=crc) + end,
        )
    for length in (0, 1, 12, 14, 2**31 - 1, 2**32 - 1):
        wrong = chunk(b"IHDR", header(16, 16)[8:21], length=length)
        yield f"png whose header is {length} bytes by its length", PNG + wrong + data + end
        yield f"png whose text is {length} bytes by its length", png(chunk(b"tEXt", b"k\0v", length=length))
        yield (
            f"png whose data is {length} bytes by its length",
            PNG + header(16, 16) + chunk(b"IDAT", rows(16, 16), length=length) + end,
        )


def _png_contents() -> Iterator[tuple[str, bytes]]:
    head, data, end = header(16, 16), chunk(b"IDAT", rows(16, 16)), chunk(b"IEND")
    orders = {
        "no header": data + end,
        "header last": data + end + head,
        "two headers": head + header(5000, 5000) + data + end,
        "no data": head + end,
        "no end": head + data,
        "end first": end + head + data,
        "nothing": b"",
        "text between data": head
        + chunk(b"IDAT", rows(16, 16)[:9])
        + chunk(b"tEXt", b"a\0b")
        + chunk(b"IDAT", rows(16, 16)[9:])
        + end,
        "empty data chunks": head + 50 * chunk(b"IDAT") + data + end,
        "data after its end": head + data + end + data,
        "an unknown critical chunk": head + chunk(b"ABCD", b"x") + data + end,
        "a name in a chunk's name": head + chunk(SECRET[:4].encode(), SECRET.encode()) + data + end,
        "a chunk without a name": head + chunk(b"\0\0\0\0") + data + end,
    }
    yield from ((f"png with {name}", PNG + content) for name, content in orders.items())
    streams = {
        "no zlib": b"no zlib at all",
        "half a stream": rows(16, 16)[: len(rows(16, 16)) // 2],
        "a wrong Adler": rows(16, 16)[:-4] + bytes(4),
        "too few rows": rows(16, 8),
        "too many rows": rows(16, 5000),
        "an unknown filter": zlib.compress((b"\x09" + bytes(48)) * 16),
        "garbage after it": rows(16, 16) + bytes(1000),
        "an empty stream": zlib.compress(b""),
    }
    yield from (
        (f"png whose data is {name}", PNG + head + chunk(b"IDAT", each) + end) for name, each in streams.items()
    )
    big = zlib.compress(bytes(50_000_000), 9)
    between = {
        "a zTXt of 50 MB": chunk(b"zTXt", b"k\0\0" + big),
        "an iTXt of 50 MB": chunk(b"iTXt", b"k\0\1\0\0\0" + big),
        "a profile of 50 MB": chunk(b"iCCP", b"k\0\0" + big),
        "a profile of garbage": chunk(b"iCCP", b"k\0\0" + zlib.compress(b"garbage" * 20)),
        "a profile without a name": chunk(b"iCCP", b""),
        "a profile of another method": chunk(b"iCCP", b"k\0\7" + b"x"),
        "an empty zTXt": chunk(b"zTXt", b""),
        "a zTXt of garbage": chunk(b"zTXt", b"k\0\0garbage"),
        "an iTXt of garbage": chunk(b"iTXt", b"k\0\1\0\xff\xfe\0\xff\xff\0garbage"),
        "a text that is not Latin": chunk(b"tEXt", bytes(range(128, 256))),
        "a tRNS too long": chunk(b"tRNS", bytes(4000)),
        "a tRNS too short": chunk(b"tRNS", b"\0"),
        "an empty gamma": chunk(b"gAMA", b""),
        "an endless gamma": chunk(b"gAMA", bytes(4)),
        "a bad chromaticity": chunk(b"cHRM", bytes(7)),
        "an empty sRGB": chunk(b"sRGB"),
        "a bad size on paper": chunk(b"pHYs", b"\xff\xff"),
        "a broken eXIf": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
        "an eXIf with itself inside": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"),
        "XMP of garbage": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta><<<&&&"),
        "XMP of a billion laughs": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _laughs()),
        "an animation of no frames": chunk(b"acTL", struct.pack(">II", 0, 0)),
        "an animation of four billion frames": chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0)),
        "an animation outside its canvas": chunk(b"acTL", struct.pack(">II", 2, 0))
        + chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 99, 99, 9, 9, 1, 1, 0, 0)),
        "a cut frame": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", b"\0"),
        "ten thousand texts": 10_000 * chunk(b"tEXt", b"k\0v"),
    }
    yield from ((f"png with {name}", png(each)) for name, each in between.items())
    for name, palette in (
        ("none", b""),
        ("an empty one", chunk(b"PLTE")),
        ("two bytes", chunk(b"PLTE", b"ab")),
        ("one colour", chunk(b"PLTE", b"abc")),
        ("too many", chunk(b"PLTE", bytes(3000))),
    ):
        for depth in (1, 8):
            data = chunk(b"IDAT", zlib.compress((b"\0" + bytes([255]) * (16 * depth // 8)) * 16))
            yield (
                f"palette png of depth {depth} with a palette of {name}",
                PNG + header(16, 16, depth, 3) + palette + data + end,
            )
    for colour, channels in ((0, 1), (2, 3), (4, 2), (6, 4)):
        body = chunk(b"IDAT", rows(16, 16, channels=channels, depth=16))
        yield (
            f"interlaced png of colour {colour} whose data is not",
            PNG + header(16, 16, 16, colour, 0, 0, 1) + body + end,
        )


def _laughs() -> bytes:
    lines = "".join(f'<!ENTITY l{n} "{10 * f"&l{n - 1};"}">' for n in range(1, 10))
    return f'<!DOCTYPE x [<!ENTITY l0 "ha">{lines}]><x:xmpmeta>&l9;</x:xmpmeta>'.encode()


def _jpeg_wrong_fields() -> Iterator[tuple[str, bytes]]:
    picture = saved(noise())
    frame = picture.find(b"\xff\xc0")
    for width, height in ((0, 0), (0, 24), (24, 0), (65_535, 65_535), (65_535, 1), (25, 25), (7000, 7000)):
        wrong = bytearray(picture)
        struct.pack_into(">HH", wrong, frame + 5, height, width)
        yield f"jpeg of {width} x {height} by its header", bytes(wrong)
    for offset, name, values in (
        (4, "depth", (0, 1, 12, 16, 255)),
        (9, "components", (0, 2, 4, 5, 255)),
        (11, "sampling", (0, 0x00, 0x55, 0xFF)),
        (12, "quantisation", (7, 255)),
    ):
        for value in dict.fromkeys(values):
            wrong = bytearray(picture)
            wrong[frame + offset] = value
            yield f"jpeg of {name} {value}", bytes(wrong)
    for marker in (0xC1, 0xC3, 0xC5, 0xC9, 0xCA, 0xCF):
        wrong = bytearray(picture)
        wrong[frame + 1] = marker
        yield f"jpeg whose frame is of kind {marker:x}", bytes(wrong)
    for place in list(jpeg_boundaries(picture))[2:28:4]:
        for length in (0, 1, 0xFFFF):
            wrong = bytearray(picture)
            struct.pack_into(">H", wrong, place, length)
            yield f"jpeg with a length of {length} at {place}", bytes(wrong)


def _jpeg_contents() -> Iterator[tuple[str, bytes]]:
    small = saved(noise())
    scan = small[small.find(b"\xff\xda") : -2]
    tables = small[2 : small.find(b"\xff\xda")]
    quoted = segment(0xFE, SECRET.encode())
    inserted = {
        "an empty EXIF": segment(0xE1, b"Exif\0\0"),
        "half an EXIF": segment(0xE1, b"Exif\0\0MM"),
        "an EXIF of garbage": segment(0xE1, b"Exif\0\0" + bytes(range(256))),
        "an EXIF that points outside": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
        "an EXIF with too many entries": exif(b"", 65_535),
        "an EXIF with itself inside": exif(struct.pack(">HHII", 0x8769, 4, 1, 8), 1),
        "an orientation of 0": exif(struct.pack(">HHIHH", 0x0112, 3, 1, 0, 0), 1),
        "an orientation of 9": exif(struct.pack(">HHIHH", 0x0112, 3, 1, 9, 0), 1),
        "an orientation in words": exif(struct.pack(">HHI4s", 0x0112, 2, 4, b"six\0"), 1),
        "an orientation of four billion values": exif(struct.pack(">HHII", 0x0112, 3, 2**32 - 1, 8), 1),
        "an orientation of no value": exif(struct.pack(">HHII", 0x0112, 3, 0, 8), 1),
        "an orientation by zero": exif(struct.pack(">HHII", 0x0112, 5, 1, 26), 1),
        "a resolution by zero": exif(struct.pack(">HHII", 0x011A, 5, 1, 26), 1),
        "an EXIF of another kind": exif(struct.pack(">HHII", 0x0112, 77, 1, 6), 1),
        "an EXIF of the other order": exif(b"", 0, order=b"II*\0\x08\0\0\0"),
        "an EXIF of a big TIFF": exif(b"", 0, order=b"MM\0+\0\x08\0\0"),
        "a profile of garbage": segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(range(256))),
        "a profile in parts that lack": segment(0xE2, b"ICC_PROFILE\0\3\7" + bytes(99)),
        "a profile of part zero": segment(0xE2, b"ICC_PROFILE\0\0\0"),
        "a broken JFIF": segment(0xE0, b"JFIF\0"),
        "a resolution of nothing": segment(0xE0, b"JFIF\0\1\1\1\0\0\0\0\0\0"),
        "a broken Adobe marker": segment(0xEE, b"Adobe"),
        "an Adobe marker of another colour": segment(0xEE, b"Adobe\0\x64\0\0\0\0\7"),
        "a broken Photoshop block": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed" + bytes(3)),
        "a broken list of pictures": segment(0xE2, b"MPF\0MM\0*\0\0\0\x08\xff\xff"),
        "a comment with a name": quoted,
        "a second start": b"\xff\xd8",
        "an early end": b"\xff\xd9",
        "an early restart": b"\xff\xd0",
        "fill bytes": 1000 * b"\xff",
        "junk": bytes(1000),
        "an escaped byte": b"\xff\x00",
        "a table of nothing": segment(0xDB),
        "too many codes": segment(0xC4, b"\0" + bytes(16 * [255]) + bytes(256)),
        "a height for later": segment(0xDC, b"\0\x18"),
        "a restart after each block": segment(0xDD, b"\0\1"),
        "ten thousand empty segments": 10_000 * segment(0xE5),
    }
    yield from ((f"jpeg with {name}", after_start(each)) for name, each in inserted.items())
    whole = {
        "no tables": b"\xff\xd8" + scan + b"\xff\xd9",
        "tables and no scan": b"\xff\xd8" + tables + b"\xff\xd9",
        "two frames": b"\xff\xd8" + tables + tables + scan + b"\xff\xd9",
        "its scan twice": b"\xff\xd8" + tables + 2 * scan + b"\xff\xd9",
        "a scan of nothing": b"\xff\xd8" + tables + segment(0xDA) + b"\xff\xd9",
        "a scan of other components": b"\xff\xd8"
        + tables
        + segment(0xDA, bytes([3, 9, 0, 9, 0, 9, 0, 0, 63, 0]))
        + b"\xff\xd9",
        "zeros for data": b"\xff\xd8" + tables + scan[:14] + bytes(2000) + b"\xff\xd9",
        "ones for data": b"\xff\xd8" + tables + scan[:14] + 1000 * b"\xff\x00" + b"\xff\xd9",
        "markers for data": b"\xff\xd8" + tables + scan[:14] + 500 * b"\xff\xd0" + b"\xff\xd9",
        "a second picture behind it": small + small,
        "garbage behind it": small + bytes(range(256)) * 20,
        "three bytes": b"\xff\xd8\xff",
        "three bytes and zeros": b"\xff\xd8\xff" + bytes(5000),
        "a hundred passes": repeated_scan(saved(noise("L"), progressive=True), 100),
        "many passes over many pixels": repeated_scan(saved(Image.new("L", (2000, 2000)), progressive=True), 2000),
    }
    yield from ((f"jpeg with {name}", each) for name, each in whole.items())


def _other_formats() -> Iterator[tuple[str, bytes]]:
    for kind in ("GIF", "TIFF", "WEBP", "BMP", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "JPEG2000"):
        yield f"{kind} named .jpg", saved(noise(side=32), kind)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(10_000_000))
    texts = {
        "PDF": b"%PDF-1.7\n1 0 obj<</JS(app.alert(1))>>endobj",
        "ZIP bomb": archive.getvalue(),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "HTML": b"<html><script>alert(1)</script>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "XML with an entity": b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>',
        "PostScript": b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file",
        "ELF": b"\x7fELF\2\1\1" + bytes(60),
        "MZ": b"MZ" + bytes(200),
        "shell": b"#!/bin/sh\nid\n",
        "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "DICOM": bytes(128) + b"DICM" + b"\x10\0\x10\0PN\x10\0" + SECRET.encode(),
        "text with a name": SECRET.encode(),
        "JSON": b'{"image": "http://127.0.0.1/"}',
        "URL": b"http://169.254.169.254/latest/meta-data/",
        "ImageMagick script": b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x.php?x=`id`'",
        "HEIF": b"\0\0\0\x18ftypheic" + bytes(50),
        "MP4": b"\0\0\0\x18ftypisom" + bytes(50),
        "one byte": b"\x00",
        "two bytes": b"\xff\xd8",
        "line end": b"\n",
        "PNG with line ends of a mail": PNG.replace(b"\r\n", b"\n") + header(1, 1),
        "PNG after a byte": b"\0" + png(),
        "JPEG after a line": b"\n" + saved(noise()),
        "PNG's signature seven times": 7 * PNG,
        "PNG's beginning and a JPEG": PNG + saved(noise()),
        "JPEG's beginning and a PNG": b"\xff\xd8\xff" + png(),
        "MNG": b"\x8aMNG\r\n\x1a\n" + bytes(60),
        "JNG": b"\x8bJNG\r\n\x1a\n" + bytes(60),
        "nothing": b"",
    }
    yield from ((f"{name} named .jpg", content) for name, content in texts.items())


def _valid() -> Iterator[tuple[str, bytes]]:
    """Yield unusual but valid pictures, among them polyglots."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.html", "<script>")
    yield "jpeg that is a ZIP as well", saved(noise()) + archive.getvalue()
    yield "png that is HTML as well", png(chunk(b"tEXt", b"Comment\0<script>alert(1)</script>"))
    yield "jpeg that is PHP as well", after_start(segment(0xFE, b"<?php system($_GET[0]); ?>"))
    yield "jpeg that is a shell script as well", after_start(segment(0xFE, b"\n/bin/id\n"))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield f"whole png of mode {mode}", saved(noise("L").convert("I;16") if mode == "I;16" else noise(mode), "PNG")
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            yield f"whole jpeg of mode {mode}, progressive {progressive}", saved(noise(mode), progressive=progressive)
    ycck = bytearray(saved(noise("CMYK")))
    ycck[ycck.find(b"Adobe") + 11] = 2
    yield "whole jpeg of YCCK", bytes(ycck)
    for orientation in range(1, 9):
        tag = Image.Exif()
        tag[0x0112] = orientation
        yield f"whole jpeg of orientation {orientation}", saved(noise(), exif=tag)
    frames = [noise().rotate(90 * number) for number in range(3)]
    yield "whole animated png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    for kind in ("PNG", "JPEG"):
        yield f"whole {kind} of one pixel", saved(noise(side=1), kind)
        yield f"whole {kind}, very wide", saved(Image.new("RGB", (60_000, 1)), kind)
