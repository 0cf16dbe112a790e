// One place under a glass: all prototypes of both models where somebody clicks, as a figure to keep.

import { api } from './api.js';
import { h } from './dom.js';

const KINDS = { png: 'PNG', svg: 'SVG', pdf: 'PDF' };

export class ComparePlace {
  constructor(sides, pair) {
    this.sides = sides;
    this.pair = pair;
    this.button = h('button', { type: 'button', class: 'lpd-glass', 'aria-pressed': 'false', title: 'Then click on the slide: all prototypes of both models there, side by side (i)', onclick: () => this.arm(!this.armed) }, 'Inspect a place');
    this.picture = h('img', { alt: '' });
    this.said = h('p', { role: 'status' });
    this.links = h('span', { class: 'lpd-downloads' });
    this.dialog = h('dialog', { class: 'lpd-place', 'aria-label': 'Prototypes at one place' }, h('header', {}, this.said, this.links, h('button', { type: 'button', 'aria-label': 'Close', title: 'Close (Esc)', onclick: () => this.dialog.close() }, '×')), this.picture);
    this.picture.addEventListener('load', () => this.say(`x ${Math.round(this.at[0])}, y ${Math.round(this.at[1])}`));
    this.picture.addEventListener('error', () => this.picture.src && this.explain());
    for (const side of sides) {
      side.view.osd.addHandler('canvas-click', (event) => this.click(side, event));
      side.view.keys.others.set('i', () => this.arm(!this.armed) ?? true);
    }
  }

  /** Wait for a click on the slide. */
  arm(on) {
    this.armed = on;
    this.button.setAttribute('aria-pressed', String(on));
    this.pair.classList.toggle('lpd-armed', on);
  }

  click(side, event) {
    if (!this.armed || !event.quick || !side.view.item) return;
    event.preventDefaultAction = true;
    this.arm(false);
    this.show(side.view.pointAt(event.position));
  }

  show(point) {
    const ids = this.sides.filter((side) => side.about).map((side) => side.job.id);
    if (!ids.length) return;
    this.at = point;
    this.say('Drawing …');
    this.picture.src = api.place(ids, point, 'png');
    this.picture.alt = 'Maps of all prototypes at this place';
    this.links.replaceChildren(...Object.entries(KINDS).map(([kind, name]) => h('a', { href: api.place(ids, point, kind, true), title: `Save this figure as ${name}` }, name)));
    if (!this.dialog.open) this.dialog.showModal();
  }

  say(text) {
    this.said.textContent = text;
  }

  /** An image tells nothing of why it did not come: ask. */
  async explain() {
    const answer = await fetch(this.picture.src).catch(() => null);
    const data = await answer?.json().catch(() => ({}));
    this.say(data?.error ?? 'The app does not answer: check that it is still running.');
  }
}
