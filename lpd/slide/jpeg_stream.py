"""A tile's JPEG stream as a file that any viewer shows right: complete, sound, and nothing in it but the picture."""

from __future__ import annotations

import simplejpeg

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN, _JFIF, _ADOBE = 0xDA, 0xE0, 0xEE
_TABLES = frozenset({0xDB, 0xC4, 0xDD})  # of quantisation, of Huffman codes, restart interval
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # Huffman coded, which browsers decode; arithmetic codes they do not
#: (bits, height, width, components) is where a frame's data begins; a segment's own head has 4 bytes.
_HEAD = 4


def stand_alone(stream: bytes, width: int, height: int) -> bytes | None:
    """The stream without what is no part of the picture: comments, camera data, thumbnails, colour profiles.

    What says how its colours are coded stays (JFIF, Adobe), or a viewer could take RGB for YCbCr. The rest goes
    because a browser would obey it where a slide reader does not (orientation, profile), and because nobody knows
    what a scanner wrote there.

    Args:
        stream: a JPEG file, or what is said to be one.
        width, height: that it must have.

    Returns:
        None if it is no complete picture of this size in three channels of 8 bits.
    """
    if not stream.startswith(_START):
        return None
    kept, at, fits = [_START], 2, False
    while at + _HEAD <= len(stream) and stream[at] == 0xFF:
        marker, end = stream[at + 1], at + 2 + int.from_bytes(stream[at + 2 : at + _HEAD], "big")
        if marker == _SCAN:
            last = stream.rfind(_END, end)  # a tile may be padded
            return b"".join([*kept, stream[at : last + 2]]) if fits and last > 0 else None
        if marker in _FRAMES:
            frame = stream[at + _HEAD : at + _HEAD + 6]
            fits = frame == b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\x03"
        if marker in _TABLES or marker in _FRAMES or _is_of_colour(stream, marker, at + _HEAD):
            kept.append(stream[at:end])
        at = end
    return None


def is_sound(picture: bytes) -> bool:
    """Whether a JPEG file decodes without as much as a warning; looks at all of it, at half the cost of its pixels."""
    try:
        simplejpeg.decode_jpeg(picture, "RGB", min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError:
        return False
    return True


def _is_of_colour(stream: bytes, marker: int, data: int) -> bool:
    jfif = marker == _JFIF and stream.startswith(b"JFIF\0", data)
    return jfif or (marker == _ADOBE and stream.startswith(b"Adobe", data))
