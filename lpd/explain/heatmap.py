"""One prototype's map as a picture by itself."""

from __future__ import annotations

import io

import numpy as np
from matplotlib import colormaps
from PIL import Image

from lpd.explain.drawing import UNKNOWN
from lpd.explain.inspection import Inspection
from lpd.explain.inspection_figure import COLORMAP


def heatmap_png(inspection: Inspection, class_index: int, k: int, low: float, high: float) -> bytes:
    """The map of a class's ``k``-th prototype as PNG, as large as the mask, each cell in one colour.

    Args:
        inspection: of some place.
        class_index, k: which prototype.
        low, high: values of the first and the last colour; grey is not computed.
    """
    height, width = inspection.mask.shape
    values = inspection.maps[class_index, k].repeat(inspection.stride_px, 0).repeat(inspection.stride_px, 1)
    shares = (values[:height, :width] - low) / max(high - low, 1e-6)
    colours = colormaps[COLORMAP].with_extremes(bad=UNKNOWN)
    pixels = colours(np.ma.masked_invalid(np.clip(shares, 0, 1)), bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
