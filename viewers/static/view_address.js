// Between the page and its address: what is shown, as a link to this view says it.

import { LAYERS } from './layers.js';

/** Show what the address asked for. */
export function restore(workspace, { x, y, scale, turn, on, heat, hide, opacity }) {
  const { layers, view, classes } = workspace;
  if (x && y && scale) view.show({ x: Number(x), y: Number(y), scale: Number(scale), degrees: Number(turn ?? 0) }, true);
  if (on !== undefined) for (const name of LAYERS) if (name !== 'difference') layers.on[name] = on.split(',').includes(name);
  if (heat) layers.heat = heat;
  if (opacity) layers.set('mask', 'opacity', Number(opacity));
  const codes = hide?.split(',') ?? [];
  classes.forEach((entry, value) => codes.includes(entry.code) && layers.hidden.add(value));
  layers.refresh();
  workspace.onLayers();
}

/** What the address says of the page. */
export function shownBy({ slide, job, layers, view, classes }) {
  if (!slide || !view.item) return {};
  const { x, y, scale, degrees } = view.where;
  return {
    slide: slide.id,
    x,
    y,
    scale,
    turn: degrees || null,
    result: job?.id,
    on: LAYERS.filter((name) => layers.on[name] && name !== 'difference').join(',') || 'none',
    heat: layers.on.heat ? layers.heat : null,
    hide: [...layers.hidden].map((value) => classes[value]?.code).join(','),
    opacity: layers.settings.mask.opacity,
  };
}
