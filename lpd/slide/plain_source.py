"""PlainSource: PNG, JPEG and simple TIFF images opened as slides, decoded whole on the first read."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import Base as Tag
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from lpd.errors import SlideError
from lpd.slide.color import on_white
from lpd.slide.levels import Level
from lpd.slide.region import Region
from lpd.slide.resolution import Resolution, tag_resolution

#: Largest image that is decoded whole: 600 MB of RGB.
MAX_PX = 200_000_000
#: Coarser copies are made until the longer side is at most this, so that an overview is quick.
_OVERVIEW_PX = 1024
#: Each copy has 1/4 of the width and height: 7 % more memory in all.
_STEP = 4

# Chosen by signature, not by Image.open: only these formats are wanted, whatever the file is called, and Pillow's own
# size warning (which cannot be silenced for one thread alone) gives way to the limit above.
_FORMATS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
)
#: What Pillow raises on broken files.
_BROKEN = (OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, AttributeError)


class PlainSource:
    """An image without a pyramid; see :class:`lpd.slide.source.Source`. Of several pages the first is shown.

    The header is read at once; the pixels are decoded on the first read and kept, with coarser copies.

    Raises:
        SlideError: the file is no PNG, JPEG or TIFF image, is damaged, or has more than 200 million pixels.
    """

    def __init__(self, path: Path) -> None:
        self.vendor = "plain image"
        self._path = path
        self._lock = threading.Lock()
        self._pixels: list[npt.NDArray[np.uint8]] = []
        self._closed = False
        with _open_image(path) as image:
            width, height = _upright_size(image)
            self.properties = _properties(image)
            self.resolution = _resolution(image)
            self.icc_profile: bytes | None = image.info.get("icc_profile") if image.mode != "CMYK" else None
        if width * height > MAX_PX:
            raise SlideError(
                f"{path.name} is a flat image of {width} × {height} px, too large to decode whole: "
                "make a pyramid of it, e.g. "
                f"vips tiffsave {path.name} {path.stem}-pyramid.tif --tile --pyramid --compression jpeg"
            )
        self.bounds = Region(0, 0, width, height)
        self.levels = _copies(width, height)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Image.Image:
        return Image.fromarray(self._decoded()[level][y : y + height, x : x + width])

    def pixels(self, level: int, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8] | None:
        return self._decoded()[level][y : y + height, x : x + width].copy()

    def jpeg(self, level: int, x: int, y: int, width: int, height: int) -> bytes | None:
        return None

    def associated(self) -> dict[str, Image.Image]:
        return {}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._pixels = []

    def _decoded(self) -> list[npt.NDArray[np.uint8]]:
        with self._lock:
            if self._closed:
                raise SlideError(f"{self._path.name} was closed: open it again to read from it")
            if not self._pixels:
                self._pixels = self._decode()
            return self._pixels

    def _decode(self) -> list[npt.NDArray[np.uint8]]:
        with _open_image(self._path) as image:
            try:
                picture = _eight_bit_rgb(image)
            except _BROKEN as error:
                raise SlideError(f"{self._path.name} is damaged{_reason(error)}: copy or export it again") from error
        pixels = [np.asarray(picture)]
        for _ in self.levels[1:]:
            picture = picture.reduce(_STEP)
            pixels.append(np.asarray(picture))
        return pixels


def _open_image(path: Path) -> ImageFile:
    with path.open("rb") as file:
        head = file.read(8)
    for signature, opener in _FORMATS:
        if head.startswith(signature):
            try:
                return opener(path)
            except _BROKEN as error:
                raise SlideError(
                    f"{path.name} is damaged or of an unusual kind{_reason(error)}: copy or export it again"
                ) from error
    raise SlideError(f"{path.name} is neither a slide that OpenSlide reads nor a PNG, JPEG or TIFF image")


def _reason(error: Exception) -> str:
    """What Pillow says, in brackets; nothing where it is only the number of a tag or scheme that it does not know."""
    return "" if str(error).isdigit() else f" ({error})"


def _upright_size(image: ImageFile) -> tuple[int, int]:
    """(width, height) after turning the image as its orientation tag says."""
    turned = not isinstance(image, TiffImageFile) and image.getexif().get(Tag.Orientation, 1) >= 5
    return (image.height, image.width) if turned else image.size  # Pillow turns TIFF itself


def _copies(width: int, height: int) -> tuple[Level, ...]:
    levels = [Level(width, height, 1.0, 1.0)]
    while max(levels[-1].width_px, levels[-1].height_px) > _OVERVIEW_PX:
        last = levels[-1]
        size = -(-last.width_px // _STEP), -(-last.height_px // _STEP)
        levels.append(Level(*size, last.scale_x * _STEP, last.scale_y * _STEP))
    return tuple(levels)


def _properties(image: ImageFile) -> dict[str, str]:
    found = {"image.format": str(image.format), "image.mode": image.mode}
    if isinstance(image, TiffImageFile):
        tags = {"tiff.ImageDescription": Tag.ImageDescription, "tiff.Software": Tag.Software}
        found |= {name: str(image.tag_v2[tag]) for name, tag in tags.items() if tag in image.tag_v2}
    return found


def _resolution(image: ImageFile) -> Resolution | None:
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        return tag_resolution(tags.get(Tag.XResolution), tags.get(Tag.YResolution), tags.get(Tag.ResolutionUnit))
    dpi_x, dpi_y = image.info.get("dpi", (None, None))
    return tag_resolution(dpi_x, dpi_y, "inch", "image resolution")


def _eight_bit_rgb(image: ImageFile) -> Image.Image:
    image.load()
    profile = image.info.get("icc_profile")
    picture: Image.Image = ImageOps.exif_transpose(image)
    if picture.mode.startswith("I"):  # 16 bit grey: the high byte, whatever range the image uses
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"pixel values reach {values.max()}, only 8 and 16 bits are read")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no agreed white, only 8 and 16 bits are read")
    if picture.mode == "CMYK" and profile:
        return _from_print(picture, profile)
    return on_white(picture)


def _from_print(picture: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        converted = None
    return converted if converted is not None else picture.convert("RGB")
