"""Gaussian filtering in position and colour at once, through the occupied cells of a five-dimensional grid."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

_AXES = 5  # x, y, red, green, blue
_RADIUS = 2
# A cell is one standard deviation wide. Going into the grid and out of it linearly blurs by 1/6 cell² each on average
# (the mean of f (1 − f) for a fraction f), so the blur inside the grid has to add the rest of the variance of 1.
_BLUR_VARIANCE = 1 - 2 / 6
# One grid treats pixels in the middle of a cell otherwise than those at its corners; a second one, moved by half a cell
# along all axes, evens that out: less than half the mean error against all pairs.
_OFFSETS = (0.0, 0.5)


class BilateralFilter:
    """The filter ``v_i ← Σ_j exp(−|x_i − x_j|² / 2σ_xy² − |I_i − I_j|² / 2σ_rgb²) v_j``, up to a constant factor.

    After the bilateral grid (Chen, Paris and Durand, SIGGRAPH 2007), the mean of two. Sums run in one fixed order, so
    that the same input gives the same output. Memory grows with the pixels and the variety of their colours, and never
    beyond the whole grid; see :func:`lpd.refinement.crf.refine_crf`.

    Args:
        image: (3, H, W) RGB in [0, 1], fp32 or fp64.
        sigma_xy: standard deviation in px.
        sigma_rgb: standard deviation in 8-bit levels, 255 being the whole range.
    """

    def __init__(self, image: Tensor, sigma_xy: float, sigma_rgb: float) -> None:
        points = _points(image, sigma_xy, sigma_rgb)
        self._grids = [_Grid(points + offset) for offset in _OFFSETS]

    def filter(self, values: Tensor) -> Tensor:
        """Filter one value per pixel and channel.

        Args:
            values: (N, C), the N = H · W pixels row by row, in the image's dtype and on its device.

        Returns:
            (N, C); the total is not that of the input: divide by what ones give.
        """
        return torch.stack([grid.filter(values) for grid in self._grids]).mean(0)


class _Grid:
    """Pixels spread over their cell's 32 corners, corners blur along one axis after the other, pixels read corners.

    Kept are the corners of cells with a pixel, and their neighbours along each axis: without those, too little passes
    from one pixel to another through empty cells.

    Args:
        points: (N, 5) in cells.
    """

    def __init__(self, points: Tensor) -> None:
        cells = points.floor()
        keys, strides = _keys(cells.long())
        occupied, cell_of_pixel = torch.unique(keys, return_inverse=True)
        steps = torch.tensor(list(itertools.product((0, 1), repeat=_AXES)), device=points.device)
        corners_of_cell = occupied[:, None] + (steps * strides).sum(1)
        corners = torch.unique(corners_of_cell)
        beside = [corners + step * stride for stride in strides for step in (-1, 1)]
        vertices = torch.unique(torch.cat((corners, *beside)))
        self._corners = torch.searchsorted(vertices, corners_of_cell)[cell_of_pixel]  # (N, 32)
        self._shares = _shares(points - cells)
        self._order_by_vertex(len(vertices))
        taps = _taps(points)
        self._blurs = [_neighbours(vertices, stride, taps) for stride in strides]

    def _order_by_vertex(self, vertex_count: int) -> None:
        ordered, order = self._corners.flatten().sort(stable=True)
        self._pixels = order // self._corners.shape[1]
        self._pixel_shares = self._shares.flatten()[order]
        self._starts = torch.searchsorted(ordered, torch.arange(vertex_count, device=ordered.device))

    def filter(self, values: Tensor) -> Tensor:
        # A bag is a weighted sum of rows: here of a vertex's pixels, of its neighbours, of a pixel's corners.
        grid = functional.embedding_bag(
            self._pixels, values, self._starts, mode="sum", per_sample_weights=self._pixel_shares
        )
        for neighbours, weights in self._blurs:
            grid = functional.embedding_bag(neighbours, grid, mode="sum", per_sample_weights=weights)
        return functional.embedding_bag(self._corners, grid, mode="sum", per_sample_weights=self._shares)


def _points(image: Tensor, sigma_xy: float, sigma_rgb: float) -> Tensor:
    """(N, 5) each pixel's x, y, red, green, blue in standard deviations."""
    rows, columns = (torch.arange(n, device=image.device, dtype=image.dtype) for n in image.shape[1:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    place = torch.stack((x, y)) / sigma_xy
    return torch.cat((place, image * (255 / sigma_rgb))).flatten(1).T


def _keys(cells: Tensor) -> tuple[Tensor, Tensor]:
    """One number per cell, (N,), and by how much it rises along each axis, (5,)."""
    low = cells.amin(0)
    # Margins keep a neighbour beyond an axis's end from being taken for the start of the next row.
    margin = _RADIUS + 1
    sizes = cells.amax(0) - low + 2 + 2 * margin
    strides = torch.cat((sizes.new_ones(1), sizes[:-1].cumprod(0)))
    return ((cells - low + margin) * strides).sum(1), strides


def _shares(fractions: Tensor) -> Tensor:
    """(N, 32) linear weight of each corner, from the (N, 5) position within the cell."""
    shares = torch.ones_like(fractions[:, :1])
    for axis in range(_AXES):  # the first axis changes slowest, as in itertools.product
        both = torch.stack((1 - fractions[:, axis], fractions[:, axis]), 1)
        shares = (shares[:, :, None] * both[:, None, :]).flatten(1)
    return shares


def _taps(like: Tensor) -> Tensor:
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=like.device, dtype=like.dtype)
    return torch.exp(-steps.square() / (2 * _BLUR_VARIANCE))


def _neighbours(vertices: Tensor, stride: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """(V, taps) indices of each vertex's neighbours along an axis, and their weights: 0 for one that is not kept."""
    steps = torch.arange(-_RADIUS, _RADIUS + 1, device=vertices.device) * stride
    wanted = vertices[:, None] + steps
    found = torch.searchsorted(vertices, wanted).clamp_max(len(vertices) - 1)
    return found, taps * (vertices[found] == wanted)
