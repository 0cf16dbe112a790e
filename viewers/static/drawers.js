// On a narrow screen the list and the controls are drawers over the slide; two buttons at the foot open them.

import { h } from './dom.js';

const NAMES = { list: ['Slides', 'Show or hide the list of slides'], panel: ['Controls', 'Show or hide model, result and layers'] };

export class Drawers {
  constructor(root) {
    this.root = root;
    this.buttons = Object.fromEntries(Object.entries(NAMES).map(([name, [text, title]]) => [name, h('button', { type: 'button', title, 'aria-expanded': 'false', onclick: () => this.open(this.root.dataset.drawer === name ? null : name) }, text)]));
    this.element = h('div', { class: 'lpd-drawers', role: 'group', 'aria-label': 'Drawers' }, Object.values(this.buttons));
  }

  open(which) {
    if (which) this.root.dataset.drawer = which;
    else delete this.root.dataset.drawer;
    for (const [name, button] of Object.entries(this.buttons)) button.setAttribute('aria-expanded', String(name === which));
  }
}
