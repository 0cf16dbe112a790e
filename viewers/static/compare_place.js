// One place under a glass: all prototypes of both models where somebody clicks, or on a picture, as a figure to keep.

import { address, api } from './api.js';
import { dataOptions } from './compare_over.js';
import { h, saveFile } from './dom.js';

const KINDS = { png: 'PNG', svg: 'SVG', pdf: 'PDF' };
const PICTURES = 'image/png,image/jpeg,image/tiff';

export class ComparePlace {
  constructor(sides, pair, attempt) {
    Object.assign(this, { sides, pair, attempt });
    this.glass = h('button', { type: 'button', class: 'lpd-glass', 'aria-pressed': 'false', title: 'Then click on the slide: all prototypes of both models there, side by side (i)', onclick: () => this.arm(!this.armed) }, 'Inspect a place');
    this.chooser = h('button', { type: 'button', class: 'lpd-glass', title: 'All prototypes of both models on a picture of yours, a tile of a data set for instance', onclick: () => this.ask() }, 'Inspect a picture …');
    this.buttons = [this.glass, this.chooser];
    this.picture = h('img', { alt: '', hidden: true });
    this.said = h('p', { role: 'status' });
    this.links = h('span', { class: 'lpd-downloads' });
    this.form = this.buildForm();
    this.dialog = h('dialog', { class: 'lpd-place', 'aria-label': 'Prototypes at one place' }, h('header', {}, this.said, this.links, h('button', { type: 'button', 'aria-label': 'Close', title: 'Close (Esc)', onclick: () => this.dialog.close() }, '×')), this.form, this.picture);
    this.dialog.addEventListener('close', () => this.forget());
    for (const side of sides) {
      side.view.osd.addHandler('canvas-click', (event) => this.click(side, event));
      side.view.keys.others.set('i', () => this.arm(!this.armed) ?? true);
    }
  }

  buildForm() {
    this.image = h('input', { type: 'file', accept: PICTURES, required: true, 'aria-label': 'Picture' });
    this.truth = h('input', { type: 'file', accept: PICTURES, 'aria-label': 'True classes' });
    this.draw = h('button', { type: 'submit', class: 'lpd-primary', title: 'Run both models on this picture; it takes some seconds and stays on this machine' }, 'Draw');
    this.splits = new Map();
    this.split = h('select', { 'aria-label': 'Data set', onchange: () => this.preview(1) });
    this.number = h('input', { type: 'number', min: 1, value: 1, 'aria-label': 'Number of the tile', onchange: () => this.preview(this.number.valueAsNumber) });
    this.shown = h('img', { alt: 'The tile', width: 56, height: 56 });
    const drawTile = h('button', { type: 'button', class: 'lpd-glass', title: 'Run both models on this tile, its mask beside them if the split has some', onclick: () => this.attempt(() => this.inspectTile(this.splits.get(this.split.value), this.number.valueAsNumber - 1)) }, 'Draw the tile');
    this.fromData = h('fieldset', { class: 'lpd-from-data', hidden: true }, h('label', {}, h('span', {}, 'Or a tile of'), this.split), h('label', {}, h('span', {}, 'Number'), this.number), this.shown, drawTile);
    const form = h('form', { class: 'lpd-picture-form' }, h('label', {}, h('span', {}, 'Picture'), this.image), h('label', {}, h('span', {}, 'True classes (optional, a value a pixel)'), this.truth), this.draw);
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.attempt(() => this.send());
    });
    return h('div', { hidden: true }, form, this.fromData);
  }

  /** Data sets that tiles can be taken from; the chosen one stays if it is still there. */
  offer(sets) {
    const before = this.split.value;
    this.split.replaceChildren(...dataOptions(sets, this.splits));
    if (this.splits.has(before)) this.split.value = before;
    this.fromData.hidden = !this.splits.size;
  }

  preview(number) {
    const data = this.splits.get(this.split.value);
    this.number.max = data.count;
    this.number.value = Math.max(1, Math.min(data.count, Math.round(number) || 1));
    this.shown.src = api.dataTile(data, this.number.value - 1);
  }

  /** A tile of a data set with its mask, on both models. */
  async inspectTile(data, number) {
    const models = [...new Set(this.sides.map((side) => side.model))].filter(Boolean);
    if (!models.length) throw Object.assign(new Error('There is no usable model in the checkpoints folder.'), { status: 0 });
    await this.draws(`${data.name}, ${data.split}, tile ${number + 1}`, (kind) => api.dataTilePath(data, number, models, kind));
  }

  /** Wait for a click on the slide. */
  arm(on) {
    this.armed = on;
    this.glass.setAttribute('aria-pressed', String(on));
    this.pair.classList.toggle('lpd-armed', on);
  }

  click(side, event) {
    if (!this.armed || !event.quick || !side.view.item) return;
    event.preventDefaultAction = true;
    this.arm(false);
    this.attempt(() => this.show(side.view.pointAt(event.position)));
  }

  async show(point) {
    const ids = this.sides.filter((side) => side.about).map((side) => side.job.id);
    if (!ids.length) throw Object.assign(new Error('No maps have been computed on this slide yet: press Compute maps first.'), { status: 0 });
    await this.draws(`x ${Math.round(point[0])}, y ${Math.round(point[1])}`, (kind) => api.placePath(ids, point, kind));
  }

  /** Show a figure that the app draws; `path` is its address by kind. */
  async draws(title, path) {
    this.open(false);
    if (!(await this.fetched((signal) => api.figure(path('png'), signal)))) return;
    this.say(title);
    this.links.replaceChildren(...Object.entries(KINDS).map(([kind, name]) => h('a', { href: address(`${path(kind)}&save=true`), title: `Save this figure as ${name}` }, name)));
  }

  ask() {
    this.open(true);
    if (this.splits.size) this.preview(this.number.valueAsNumber);
    this.say('A picture, at the resolution that the models know');
  }

  async send() {
    const models = [...new Set(this.sides.map((side) => side.model))].filter(Boolean);
    const [image, truth] = [this.image.files[0], this.truth.files[0]];
    const figure = async (kind, save, signal) => {
      if (!models.length) throw Object.assign(new Error('There is no usable model in the checkpoints folder.'), { status: 0 });
      return api.imageFigure(image, truth, models, kind, save, signal);
    };
    if (!(await this.fetched((signal) => figure('png', false, signal)))) return;
    this.say(image.name);
    const save = (kind) => this.attempt(async () => saveFile(await figure(kind, true), `prototypes.${kind}`));
    this.links.replaceChildren(...Object.entries(KINDS).map(([kind, name]) => h('button', { type: 'button', class: 'lpd-link', title: `Save this figure as ${name}`, onclick: () => save(kind) }, name)));
  }

  /** Show a figure when it has come, and say whether it is there; one that was asked for before is not drawn any more. */
  async fetched(work) {
    this.forget();
    const { signal } = (this.asked = new AbortController());
    this.say('Drawing …');
    this.draw.disabled = true;
    try {
      const blob = await work(signal);
      if (signal.aborted) return false;
      this.picture.src = URL.createObjectURL(blob);
      this.picture.alt = 'Maps of all prototypes';
      this.picture.hidden = false;
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      this.say(error.message);
      if (error.status === undefined) throw error;
      return false;
    } finally {
      if (signal === this.asked.signal) this.draw.disabled = false;
    }
  }

  open(withForm) {
    this.forget();
    this.form.hidden = !withForm;
    if (!this.dialog.open) this.dialog.showModal();
  }

  forget() {
    this.asked?.abort();
    if (this.picture.src) URL.revokeObjectURL(this.picture.src);
    this.picture.removeAttribute('src');
    this.picture.hidden = true;
    this.links.replaceChildren();
  }

  say(text) {
    this.said.textContent = text;
  }
}
