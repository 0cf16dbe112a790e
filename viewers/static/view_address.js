// Between the page and its address: what is shown, as a link to this view says it.

import { LAYERS } from './layers.js';

const FARTHEST = 2 ** 31; // level-0 pixels

/** What an address may say; whatever else it holds is left alone. */
export const NAMES = ['slide', 'x', 'y', 'scale', 'turn', 'result', 'with', 'on', 'heat', 'from', 'hide', 'outlines', 'opacity'];

/** Show what the address asked for. */
export function restore(workspace, { x, y, scale, turn, on, with: other, heat, from, hide, outlines, opacity }) {
  const { layers, view, classes } = workspace;
  const place = { x: Number(x), y: Number(y), scale: Number(scale), degrees: Number(turn ?? 0) % 360 };
  if (isPlace(place)) view.show(place, true);
  else if (x && y && scale) workspace.toast('The address does not name a place that can be shown: this is the whole slide.');
  if (on !== undefined) {
    for (const name of LAYERS) layers.on[name] = on.split(',').includes(name);
    layers.set('mask', 'outline', outlines !== undefined);
    const beside = workspace.jobs.find((job) => job.id === other && job.has_mask && job.id !== workspace.job?.id);
    if (other && !beside) workspace.toast('The result to compare with in the address cannot be shown on this slide.');
    layers.compareWith(beside ?? null);
  }
  if (isHeat(heat, classes)) layers.heat = heat;
  else if (heat && workspace.job) workspace.toast('The heatmap in the address is not one of this result.');
  if (heat && isShare(from)) layers.set('heat', 'threshold', Number(from));
  for (const [name, share] of opacitiesOf(opacity)) layers.set(name, 'opacity', share);
  const codes = hide?.split(',') ?? [];
  classes.forEach((entry, value) => codes.includes(entry.code) && layers.hidden.add(value));
  layers.refresh();
  workspace.onLayers();
}

/** What the address says of the page. */
export function shownBy({ slide, job, layers, view, classes }) {
  if (!slide || !view.item) return {};
  const { x, y, scale, degrees } = view.where;
  const { heat, on, other, settings } = layers;
  const shown = LAYERS.filter((name) => on[name] && (name !== 'difference' || other));
  return {
    slide: slide.id,
    x,
    y,
    scale,
    turn: degrees || null,
    result: job?.id,
    with: on.difference ? other?.id : null,
    on: shown.join(',') || 'none',
    heat: on.heat ? heat : null,
    from: on.heat ? settings.heat.threshold : null,
    hide: [...layers.hidden].map((value) => classes[value]?.code).join(','),
    outlines: settings.mask.outline ? 1 : null,
    opacity: shown.map((name) => `${name}:${settings[name].opacity}`).join(','),
  };
}

/** [layer, 0–1] of `mask:0.5,heat:1`; a number alone, as in older links, is the mask's. */
function opacitiesOf(text) {
  const pairs = (text ?? '').split(',').map((part) => (part.includes(':') ? part.split(':') : ['mask', part]));
  return pairs.filter(([name, share]) => LAYERS.includes(name) && isShare(share)).map(([name, share]) => [name, Number(share)]);
}

// A viewer that was once sent to no number, or beyond what it can reckon with, would not find back.
const isPlace = ({ x, y, scale, degrees }) => Math.abs(x) < FARTHEST && Math.abs(y) < FARTHEST && scale > 0 && scale < FARTHEST && Number.isFinite(degrees);

/** Whether a heatmap is one of a result with these classes, if they are known yet; background has none. */
const isHeat = (heat, classes) => heat === 'margin' || (/^score-\d+$/.test(heat ?? '') && (!classes.length || Number(heat.slice(6)) < classes.length - 1));

const isShare = (text) => Boolean(text) && Number(text) >= 0 && Number(text) <= 1;
