// Colours of prototype maps: bytes 0–254 stand for −1 … 1 of what a prototype can answer, 127 for nothing.

import { heat } from './layers.js';

const ZERO = 127;
const COLD = [33, 102, 172];
const WARM = [178, 24, 43];

/** What a byte stands for, −1 … 1. */
export const activation = (value) => value / ZERO - 1;

/** Colours of a map from its `low` to its `high` byte, clear below the threshold (a share of that range). */
export function rangeColors([low, high], threshold) {
  return Array.from({ length: 255 }, (_, value) => {
    const share = Math.min(1, (value - low) / Math.max(1, high - low));
    return share < Math.max(threshold, 1e-6) ? null : heat(share);
  });
}

/** Colours of a difference of two maps, 127 where they are alike: blue where the left one answers more, red the right
 * one. Full from half of `span` on, the bytes between the ends of their ranges. */
export function differenceColors(span, threshold) {
  return Array.from({ length: 255 }, (_, value) => {
    const by = (4 * (value - ZERO)) / span; // a step of the byte is two of the maps'
    const share = Math.min(1, Math.abs(by));
    return share < Math.max(threshold, 0.05) ? null : [...(by < 0 ? COLD : WARM), Math.round(255 * share)];
  });
}

/** A gradient for a legend. */
export const ramp = (colors) => `linear-gradient(90deg, ${colors.map((color) => `rgb(${color})`).join(',')})`;

export const DIFFERENCE_RAMP = [COLD, [250, 250, 250], WARM];
