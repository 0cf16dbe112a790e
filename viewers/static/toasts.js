// Sentences that come up at the edge of the page and go by themselves.

import { h, icon } from './dom.js';

const STAY_MS = 12000;

export class Toasts {
  constructor() {
    this.element = h('div', { class: 'lpd-toasts', 'aria-live': 'polite' });
  }

  show(message, kind = 'warning', choice = null) {
    const toast = h('div', { class: `lpd-toast lpd-${kind}`, role: kind === 'info' ? 'status' : 'alert' }, icon(kind), h('span', {}, message));
    const choose = () => (toast.remove(), choice.act());
    if (choice) toast.append(h('button', { type: 'button', class: 'lpd-choice', onclick: choose }, choice.name));
    toast.append(h('button', { type: 'button', title: 'Dismiss', onclick: () => toast.remove() }, '×'));
    this.element.replaceChildren(...[...this.element.children].slice(-2), toast);
    setTimeout(() => toast.remove(), STAY_MS);
  }
}
