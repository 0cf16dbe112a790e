"""Seeded gradient noise on an endless plane: any rectangle at any scale, each value independent of all others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """A sum of gradient-noise octaves, each half the wavelength of the one before.

    Attributes:
        seed: any non-negative integer; other seeds give unrelated fields.
        wavelength: of the first octave, in the caller's unit of length.
        octaves: how many.
        gain: amplitude of an octave relative to the one before.
    """

    seed: int
    wavelength: float
    octaves: int = 1
    gain: float = 0.5

    def __call__(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Floats:
        """Values at the points (x, y), roughly normal with mean 0 and standard deviation 1; same shape as ``x``."""
        total = np.zeros(np.broadcast(x, y).shape, np.float32)
        weight, power = 1.0, 0.0
        for octave in range(self.octaves):
            scale = 2.0**octave / self.wavelength
            total += np.float32(weight) * _turned_octave(self.seed, octave, x * scale, y * scale)
            power += weight**2
            weight *= self.gain
        return total / np.float32(_OCTAVE_DEVIATION * np.sqrt(power))


#: Standard deviation of one octave of unit-gradient noise, measured over 10^7 points.
_OCTAVE_DEVIATION = 0.2157


def _turned_octave(seed: int, octave: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Floats:
    # Each octave has its own angle and shift, so that lattice lines never add up to a visible grid.
    turn = 0.6 + 1.3 * octave + 0.37 * (seed % 17)
    shift = 11.7 * octave + 0.5
    return _octave(
        _mix_scalar(seed * 64 + octave),
        x * np.cos(turn) - y * np.sin(turn) + shift,
        x * np.sin(turn) + y * np.cos(turn) - shift,
    )


def _octave(key: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Floats:
    """Perlin's gradient noise with quintic fade (Perlin, 'Improving noise', 2002) and hashed unit gradients."""
    column, row = np.floor(x), np.floor(y)
    u, v = (x - column).astype(np.float32), (y - row).astype(np.float32)
    i, j = column.astype(np.int64).astype(np.uint32), row.astype(np.int64).astype(np.uint32)
    fade_u = u * u * u * (u * (u * 6 - 15) + 10)
    fade_v = v * v * v * (v * (v * 6 - 15) + 10)
    one = np.uint32(1)
    top = _lerp(_corner(key, i, j, u, v), _corner(key, i + one, j, u - 1, v), fade_u)
    bottom = _lerp(_corner(key, i, j + one, u, v - 1), _corner(key, i + one, j + one, u - 1, v - 1), fade_u)
    return _lerp(top, bottom, fade_v)


def _lerp(a: Floats, b: Floats, t: Floats) -> Floats:
    return a + t * (b - a)


_ANGLES = np.arange(256) * (2 * np.pi / 256)
_GRADIENTS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)]).astype(np.float32)


def _corner(key: int, i: npt.NDArray[np.uint32], j: npt.NDArray[np.uint32], du: Floats, dv: Floats) -> Floats:
    direction = _mix(i * np.uint32(0x9E3779B1) ^ _mix(j + np.uint32(key))) & np.uint32(255)
    result: Floats = _GRADIENTS[0][direction] * du + _GRADIENTS[1][direction] * dv
    return result


def _mix(value: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    # A 32-bit finaliser: shifts and odd multipliers, so that neighbouring lattice points get unrelated bits.
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def _mix_scalar(value: int) -> int:
    mixed = 0
    while value:  # 32 bits at a time, so that large seeds count in full
        mixed = int(_mix(np.array([(value & 0xFFFFFFFF) ^ mixed], np.uint32))[0])
        value >>= 32
    return mixed
