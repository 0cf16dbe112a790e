// What the page says of itself to tests.

import { LAYERS } from './layers.js';

/** What tests and curious people may look at in `window.__lpd`. */
export function makeProbe(workspace) {
  return {
    ready: false,
    slideOpen: false,
    errors: [],
    destroy: () => workspace.destroy(),
    get state() {
      const { slide, job, layers, view, drawing: { shapes } } = workspace;
      const { mask } = layers;
      return {
        slide: slide?.name ?? null,
        job: job && { id: job.id, state: job.state, ended: job.ended, progress: job.progress },
        scale: view.scale,
        region: view.region() ?? null,
        maskFetches: mask.fetches,
        maskDrawn: mask.drawn,
        maskRevision: mask.revision,
        maskLoading: mask.loading.size,
        layers: Object.fromEntries(LAYERS.map((name) => [name, { on: layers.on[name], drawn: layers.stack[name].drawn, loading: layers.stack[name].loading.size, fetches: layers.stack[name].fetches }])),
        heat: layers.heat,
        review: workspace.review.probe,
        labels: workspace.labels.probe,
        turn: view.osd.viewport?.getRotation() ?? 0,
        shapes: shapes.features.length,
        saved: !shapes.unsaved,
        selected: shapes.selected,
      };
    },
  };
}
