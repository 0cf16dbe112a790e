// Between the page and its address: what is shown, as a link to this view says it.

import { LAYERS } from './layers.js';

/** What an address may say; whatever else it holds is left alone. */
export const NAMES = ['slide', 'x', 'y', 'scale', 'turn', 'result', 'with', 'on', 'heat', 'from', 'hide', 'outlines', 'opacity'];

/** Show what the address asked for. */
export function restore(workspace, { x, y, scale, turn, on, with: other, heat, from, hide, outlines, opacity }) {
  const { layers, view, classes } = workspace;
  if (x && y && scale) view.show({ x: Number(x), y: Number(y), scale: Number(scale), degrees: Number(turn ?? 0) }, true);
  if (on !== undefined) {
    for (const name of LAYERS) layers.on[name] = on.split(',').includes(name);
    layers.set('mask', 'outline', outlines !== undefined);
    layers.compareWith(workspace.jobs.find((job) => job.id === other && job.has_mask && job.id !== workspace.job?.id) ?? null);
  }
  if (/^(margin|score-\d+)$/.test(heat ?? '')) layers.heat = heat;
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

const isShare = (text) => Boolean(text) && Number(text) >= 0 && Number(text) <= 1;
