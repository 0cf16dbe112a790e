// A new label set: its name, its classes (those of a model, or typed in), and how large its tiles are.

import { h, hex, rgb } from './dom.js';

const OWN = '';
const SIDES = [128, 224, 256, 320, 512];
const USUAL = { px: 224, mpp: 0.5 };
const COLORS = ['#e03131', '#2f9e44', '#1971c2', '#9c36b5', '#f08c00', '#0c8599', '#c2255c', '#5c940d', '#6741d9', '#846358'];
const MOST = 24;

export class LabelForm {
  constructor(labels) {
    this.labels = labels;
    this.isOpen = false;
    this.name = h('input', { type: 'text', id: 'lpd-label-name', maxLength: 100, required: true, placeholder: 'e.g. Kidney PAS' });
    this.source = h('select', { id: 'lpd-label-source', onchange: () => this.fill() });
    this.mpp = h('input', { type: 'number', id: 'lpd-label-mpp', min: 0.05, max: 20, step: 'any', required: true });
    this.px = h('select', { 'aria-label': 'Pixels along a tile’s side', onchange: () => this.tellSize() }, SIDES.map((px) => h('option', { value: px }, `${px} px`)));
    this.mpp.addEventListener('input', () => this.tellSize());
    this.size = h('p', { class: 'lpd-hint' });
    this.rows = h('div', { class: 'lpd-label-rows' });
    this.more = h('button', { type: 'button', class: 'lpd-secondary', onclick: () => this.add().querySelector('input').focus() }, 'Add a class');
    this.own = h('div', { class: 'lpd-label-own' }, this.rows, this.more);
    this.cancel = h('button', { type: 'button', class: 'lpd-secondary', onclick: () => this.close() }, 'Cancel');
    const field = (id, text, ...inputs) => h('div', { class: 'lpd-field' }, h('label', { htmlFor: id }, text), ...inputs);
    this.element = h(
      'form',
      { class: 'lpd-label-form', hidden: true, 'aria-label': 'New label set' },
      h('p', {}, h('strong', {}, 'New label set')),
      field('lpd-label-name', 'Name', this.name),
      field('lpd-label-source', 'Classes', this.source),
      this.own,
      field('lpd-label-mpp', 'Tiles', h('span', { class: 'lpd-label-tile' }, this.px, h('span', {}, 'at'), this.mpp, h('span', {}, 'µm/px'))),
      this.size,
      h('div', { class: 'lpd-shape-acts' }, h('button', { type: 'submit', class: 'lpd-primary' }, 'Begin'), this.cancel),
    );
    this.element.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
  }

  open() {
    const models = (this.labels.models ?? []).filter((model) => !model.error);
    this.isOpen = true;
    this.source.replaceChildren(...models.map((model) => h('option', { value: model.name }, `of ${model.name}`)), h('option', { value: OWN }, 'my own …'));
    this.source.value = models.some((model) => model.name === this.labels.model) ? this.labels.model : OWN;
    this.cancel.hidden = !this.labels.set;
    this.rows.replaceChildren();
    this.fill();
    this.labels.panel.render();
    this.name.focus();
  }

  close() {
    this.isOpen = false;
    this.labels.changed();
  }

  get model() {
    return this.labels.models.find((model) => model.name === this.source.value);
  }

  fill() {
    this.own.hidden = this.source.value !== OWN;
    for (const input of this.rows.querySelectorAll('input')) input.disabled = this.own.hidden;
    if (!this.own.hidden && !this.rows.childElementCount) [1, 2].forEach(() => this.add());
    this.px.value = USUAL.px;
    this.mpp.value = this.model?.mpp ?? USUAL.mpp;
    this.tellSize();
  }

  tellSize() {
    const um = Number(this.px.value) * this.mpp.valueAsNumber;
    this.size.textContent = um > 0 ? `A tile is ${Number(um.toPrecision(3))} µm wide; a person should tell what it shows at a glance.` : '';
  }

  add() {
    const number = this.rows.childElementCount;
    const text = (label, properties) => h('input', { type: 'text', 'aria-label': label, placeholder: label, required: true, ...properties });
    const row = h(
      'div',
      {},
      h('input', { type: 'color', value: COLORS[number % COLORS.length], 'aria-label': 'Colour' }),
      text('Code', { maxLength: 12, pattern: '[A-Za-z0-9_\\-]+', title: 'Letters and digits, such as TUM' }),
      text('Name', { maxLength: 60 }),
      h('button', { type: 'button', title: 'Leave this class out', 'aria-label': 'Leave this class out', onclick: () => row.remove() }, '×'),
    );
    this.rows.append(row);
    this.more.disabled = this.rows.childElementCount >= MOST;
    return row;
  }

  async submit() {
    const wish = { name: this.name.value, mpp: this.mpp.valueAsNumber, tile_px: Number(this.px.value) };
    if (this.source.value !== OWN) wish.checkpoint = this.source.value;
    else
      wish.classes = [...this.rows.children].map((row) => {
        const [color, code, name] = row.querySelectorAll('input');
        return { code: code.value.trim(), name: name.value.trim(), color: rgb(color.value) };
      });
    if (wish.classes && !wish.classes.length) this.add();
    const begun = await this.labels.attempt(async () => {
      await this.labels.create(wish);
      return true;
    });
    if (!begun) return;
    this.name.value = '';
    this.close();
    this.labels.view.host.focus({ preventScroll: true });
  }
}
