// What is above and beside the two views: which slide, side by side or one over the other, how maps look.

import { memory } from './api.js';
import { h } from './dom.js';
import { HEAT_RAMP } from './layers.js';
import { DIFFERENCE_RAMP, ramp } from './prototype_colors.js';

const MODES = {
  side: ['Side by side', 'Both sides beside one another, moved together'],
  swipe: ['Swipe', 'The right side over the left one, as far as the handle is drawn'],
  difference: ['Difference', 'What the left map answers more (blue) and the right one (red)'],
};
const RANGES = { own: 'Each map by its own range', same: 'All from 0 to the highest possible' };

export class CompareControls {
  constructor(pair, { onSlide, onLook }) {
    this.pair = pair;
    this.onLook = onLook;
    this.look = { mode: 'side', threshold: 0.4, opacity: 0.75, range: 'own', mask: false, linked: true, ...memory.get('compare', {}) };
    if (!(this.look.mode in MODES)) this.look.mode = 'side';
    this.slides = h('select', { 'aria-label': 'Slide to compare on', onchange: () => onSlide(this.slides.value) });
    this.modes = h('div', { class: 'lpd-modes', role: 'group', 'aria-label': 'How to compare' }, Object.entries(MODES).map(([value, [text, title]]) => this.modeButton(value, text, title)));
    this.bar = h('header', { class: 'lpd-compare-bar' }, h('label', {}, h('span', {}, 'Slide'), this.slides), this.modes);
    this.handle = h('div', { class: 'lpd-swipe', role: 'slider', tabIndex: 0, 'aria-label': 'Where the right side begins', 'aria-valuemin': 0, 'aria-valuemax': 100, hidden: true });
    this.handle.addEventListener('pointerdown', (event) => this.drag(event));
    this.handle.addEventListener('keydown', (event) => this.nudge(event));
    pair.append(this.handle);
    this.looks = this.buildLooks();
    this.swipe(50);
    this.setMode(this.look.mode);
  }

  modeButton(value, text, title) {
    return h('button', { type: 'button', title, 'data-mode': value, onclick: () => this.setMode(value) }, text);
  }

  buildLooks() {
    const slider = (name, label, title) => {
      const input = h('input', { type: 'range', min: 0, max: 1, step: 0.01, value: this.look[name], 'aria-label': label, title });
      input.addEventListener('input', () => this.set(name, input.valueAsNumber));
      return h('label', { class: 'lpd-threshold' }, h('span', {}, label), input);
    };
    const tick = (name, label, title) => {
      const input = h('input', { type: 'checkbox', checked: this.look[name], id: `lpd-compare-${name}` });
      input.addEventListener('change', () => this.set(name, input.checked));
      return h('label', { class: 'lpd-tick', htmlFor: input.id, title }, input, h('span', {}, label));
    };
    const range = h('select', { 'aria-label': 'Range of colours', onchange: () => this.set('range', range.value) }, Object.entries(RANGES).map(([value, text]) => h('option', { value, selected: value === this.look.range }, text)));
    this.scale = h('span', { class: 'lpd-heat-scale' });
    this.ends = [h('span'), h('span')];
    this.said = h('p', { class: 'lpd-hint', 'data-said': 'maps', hidden: true });
    return h(
      'section',
      { class: 'lpd-looks' },
      h('h3', {}, 'Maps'),
      slider('threshold', 'Show from', 'Maps are clear below this share of their range'),
      slider('opacity', 'Opacity', 'Opacity of the maps'),
      range,
      h('div', { class: 'lpd-heat-ends' }, this.ends[0], this.scale, this.ends[1]),
      this.said,
      tick('mask', 'Tissue classes (m)', 'The class with the highest score, under the maps'),
      tick('linked', 'Pick counterparts together', 'Whoever picks a prototype on one side sees the one that matches it on the other'),
    );
  }

  /** Slides to choose from; the one that is shown stays chosen, though its file be gone. */
  offer(slides, shown) {
    const gone = shown && !slides.some(({ id }) => id === shown.id) ? [shown] : [];
    this.slides.replaceChildren(...[...slides, ...gone].map(({ id, name }) => h('option', { value: id, selected: id === shown?.id }, name)));
  }

  set slide(id) {
    this.slides.value = id;
  }

  /** What the maps are, if that has to be said. */
  say(text) {
    this.said.textContent = text;
    this.said.hidden = !text;
  }

  get mode() {
    return this.look.mode;
  }

  get linked() {
    return this.look.linked;
  }

  set(name, value) {
    this.look[name] = value;
    memory.set('compare', this.look);
    this.onLook();
  }

  toggleMask() {
    const box = this.looks.querySelector('#lpd-compare-mask');
    box.checked = !this.look.mask;
    this.set('mask', box.checked);
  }

  setMode(mode) {
    this.look.mode = mode;
    memory.set('compare', this.look);
    this.pair.dataset.mode = mode;
    this.handle.hidden = mode !== 'swipe';
    for (const button of this.modes.children) button.setAttribute('aria-pressed', String(button.dataset.mode === mode));
    const difference = mode === 'difference';
    this.scale.style.background = ramp(difference ? DIFFERENCE_RAMP : HEAT_RAMP);
    const texts = difference ? ['left more', 'right more'] : ['low', 'high'];
    this.ends.forEach((end, i) => (end.textContent = texts[i]));
    if (this.drawn) this.onLook();
    this.drawn = true;
  }

  /** Let the right side begin at a share of the width, in %. */
  swipe(percent) {
    this.at = Math.max(0, Math.min(100, percent));
    this.pair.style.setProperty('--lpd-swipe', `${this.at}%`);
    this.handle.setAttribute('aria-valuenow', String(Math.round(this.at)));
  }

  drag(event) {
    event.preventDefault();
    this.handle.setPointerCapture(event.pointerId);
    const box = this.pair.getBoundingClientRect();
    this.handle.onpointermove = (move) => this.swipe((100 * (move.clientX - box.left)) / box.width);
    this.handle.onpointerup = this.handle.onpointercancel = () => (this.handle.onpointermove = null);
  }

  nudge(event) {
    const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.swipe(this.at + step);
  }

  destroy() {
    this.handle.onpointermove = null;
  }
}
