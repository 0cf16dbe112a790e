// Switches and looks of the layers over the slide.

import { memory } from './api.js';
import { h, moment } from './dom.js';
import { heat } from './layers.js';

const NAMES = { mask: 'Tissue classes', review: 'Corrections', heat: 'Heatmap', difference: 'Difference', truth: 'Ground truth', tissue: 'Where tissue is' };
const HINTS = {
  mask: 'The class with the highest score (m)',
  review: 'What people have judged, hatched; without it the classes are the model’s alone',
  heat: 'Score of one class, or how little the best class is ahead',
  difference: 'Where another result says something else, in its colours',
  truth: 'The mask that lies beside the slide file, as outlines',
  tissue: 'Where the model looks for tissue at all, as outlines',
};

export class LayerPanel {
  constructor(layers) {
    this.layers = layers;
    this.rows = Object.fromEntries(['mask', 'review', 'heat', 'difference', 'truth', 'tissue'].map((name) => [name, this.row(name)]));
    this.element = h('details', { class: 'lpd-layers', open: memory.get('layers-open', true) }, h('summary', {}, h('h3', {}, 'Layers')), ...Object.values(this.rows).map((row) => row.element));
    this.element.addEventListener('toggle', () => memory.set('layers-open', this.element.open));
  }

  row(name) {
    const { layers } = this;
    const toggle = h('input', { type: 'checkbox', id: `lpd-layer-${name}` });
    toggle.addEventListener('change', () => this.switch(name, toggle.checked));
    const slider = h('input', { type: 'range', min: 0, max: 1, step: 0.01, value: layers.settings[name].opacity, 'aria-label': `${NAMES[name]}: opacity`, title: 'Opacity' });
    slider.addEventListener('input', () => layers.set(name, 'opacity', slider.valueAsNumber));
    const head = h('div', { class: 'lpd-layer-head', title: HINTS[name] }, h('label', { htmlFor: toggle.id }, toggle, h('span', {}, NAMES[name])), slider);
    const more = this[`more_${name}`]?.() ?? null;
    return { toggle, slider, more, element: h('div', { class: 'lpd-layer-row', 'data-layer': name }, head, more) };
  }

  switch(name, on) {
    if (name === 'heat') this.layers.setHeat(on ? this.what.value : null);
    else if (name === 'difference') this.layers.compareWith(on ? this.results.find((job) => job.id === this.others.value) : null);
    else this.layers.toggle(name, on);
  }

  more_mask() {
    const { layers } = this;
    this.outline = h('input', { type: 'checkbox', id: 'lpd-mask-outline' });
    this.outline.addEventListener('change', () => layers.set('mask', 'outline', this.outline.checked));
    return h('label', { class: 'lpd-small', htmlFor: this.outline.id }, this.outline, 'outlines only');
  }

  more_heat() {
    this.what = h('select', { 'aria-label': 'Heatmap of', onchange: () => this.layers.setHeat(this.what.value) });
    this.threshold = h('input', { type: 'range', min: 0, max: 0.95, step: 0.01, 'aria-label': 'Heatmap: threshold', title: 'Show from this value on' });
    const scale = h('span', { class: 'lpd-heat-scale' });
    scale.style.background = `linear-gradient(90deg, ${[0, 0.2, 0.4, 0.6, 0.8, 1].map((share) => `rgb(${heat(share)})`).join(',')})`;
    this.number = h('output');
    this.threshold.addEventListener('input', () => {
      this.layers.set('heat', 'threshold', this.threshold.valueAsNumber);
      this.showThreshold();
    });
    return h('div', { class: 'lpd-layer-more' }, this.what, h('label', { class: 'lpd-threshold' }, h('span', {}, 'from'), this.threshold, this.number), h('div', { class: 'lpd-heat-ends' }, h('span', {}, '0'), scale, h('span', {}, '1')));
  }

  showThreshold() {
    const { threshold } = this.layers.settings.heat;
    this.threshold.value = threshold;
    this.number.textContent = Number(threshold).toFixed(2);
  }

  more_difference() {
    this.others = h('select', { 'aria-label': 'Compared with', onchange: () => this.switch('difference', true) });
    return h('div', { class: 'lpd-layer-more' }, this.others);
  }

  render({ job, jobs, slide }) {
    const { layers, rows } = this;
    const shown = Boolean(job?.has_mask);
    this.element.hidden = !slide;
    this.results = jobs.filter((one) => one.id !== job?.id && one.has_mask);
    for (const name of ['mask', 'heat']) rows[name].element.hidden = !shown;
    rows.review.element.hidden = !shown || !layers.review;
    rows.difference.element.hidden = !shown || !this.results.length;
    rows.truth.element.hidden = !slide?.truth;
    for (const [name, row] of Object.entries(rows)) {
      row.toggle.checked = layers.on[name];
      row.slider.disabled = !layers.on[name];
      row.slider.value = layers.settings[name].opacity;
      if (row.more) row.more.hidden = !layers.on[name];
    }
    this.outline.checked = Boolean(layers.settings.mask.outline);
    this.showThreshold();
    if (shown) this.renderChoices(job);
  }

  renderChoices(job) {
    const classes = job.classes.slice(0, -1);
    const key = JSON.stringify([job.id, classes, this.results.map((one) => [one.id, one.state])]);
    if (this.choices !== key) {
      this.choices = key;
      this.what.replaceChildren(...classes.map((entry, value) => h('option', { value: `score-${value}` }, `Score: ${entry.name}`)), h('option', { value: 'margin' }, 'Doubt (small margin)'));
      this.others.replaceChildren(...this.results.map((one) => h('option', { value: one.id }, `${one.checkpoint} · ${moment(one.created)}`)));
    }
    if (this.layers.heat) this.what.value = this.layers.heat;
    if (this.layers.other) this.others.value = this.layers.other.id;
  }
}
