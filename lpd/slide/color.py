"""Colour: pixels of any mode to RGB on white, and from a slide's own ICC profile to sRGB."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

Recolor = Callable[[Image.Image], Image.Image]


def srgb_transform(profile: bytes) -> Recolor | None:
    """A function that turns RGB pictures with this ICC profile into sRGB; it may be shared between threads.

    None if there is nothing to do: the profile is sRGB to within one step of 255, or it is damaged or not for RGB,
    when the colours as stored are the best there is.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    except (OSError, ImageCms.PyCMSError):
        return None

    def recolor(image: Image.Image) -> Image.Image:
        return ImageCms.applyTransform(image, transform) or image

    return None if _changes_nothing(recolor) else recolor


def on_white(image: Image.Image) -> Image.Image:
    """Any 8-bit picture as RGB; transparent parts show white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _changes_nothing(recolor: Recolor) -> bool:
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    changed = np.asarray(recolor(Image.fromarray(lattice))).astype(int)
    return bool(np.abs(changed - lattice).max() <= 1)
