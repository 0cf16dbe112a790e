// A short introduction for the first visit: four steps, put away for good with one click, called back by "?".

import { memory } from './api.js';
import { h } from './dom.js';

const STEPS = [
  ['.lpd-rail', 'Choose a slide', 'All slides of the folder are listed, with size, resolution, and what has segmented them. Search, sort, or walk with the arrow keys; Enter opens.'],
  ['.lpd-stage', 'Look around', 'The wheel zooms where the pointer is, dragging moves. Keys: + and − zoom, 0 shows all, r turns, f fills the screen, m hides the mask.'],
  ['.lpd-run', 'Segment', 'Choose a model and press Segment slide. The mask grows over the slide while the model works; you may go on, or close the page.'],
  ['.lpd-panel', 'Read and take along', 'Areas of each class, layers, heatmaps, and files for QuPath stand on the right. Each button says what it does when the pointer rests on it.'],
];

export class Guide {
  constructor(root) {
    this.root = root;
    this.button = h('button', { type: 'button', class: 'lpd-help', title: 'Show the short introduction (?)', 'aria-label': 'Show the short introduction', onclick: () => this.begin() }, '?');
    this.card = h('section', { class: 'lpd-guide', role: 'dialog', 'aria-label': 'Introduction', hidden: true });
    this.listen = (event) => {
      if (event.target.closest?.('input, select, textarea, [contenteditable]')) return;
      if (event.key === '?' && root.offsetParent) this.begin();
      else if (event.key === 'Escape' && !this.card.hidden) this.end();
    };
    document.addEventListener('keydown', this.listen);
  }

  get wanted() {
    return !memory.get('guided', false);
  }

  begin() {
    this.show(0);
  }

  show(step) {
    const [place, title, text] = STEPS[step];
    this.point(place);
    const last = step === STEPS.length - 1;
    const button = (name, hint, act, kind) => h('button', { type: 'button', class: `lpd-${kind}`, title: hint, onclick: act }, name);
    this.card.replaceChildren(
      h('header', {}, h('strong', {}, title), h('span', { class: 'lpd-count' }, `${step + 1} of ${STEPS.length}`)),
      h('p', {}, text),
      h(
        'div',
        { class: 'lpd-guide-buttons' },
        last ? h('span') : button('Skip', 'Put the introduction away; "?" brings it back', () => this.end(), 'secondary'),
        step ? button('Back', 'Go back one step', () => this.show(step - 1), 'secondary') : h('span'),
        button(last ? 'Done' : 'Next', last ? 'Put the introduction away; "?" brings it back' : 'Go on to the next step', () => (last ? this.end() : this.show(step + 1)), 'primary'),
      ),
    );
    this.card.hidden = false;
    this.card.querySelector('.lpd-primary').focus();
  }

  point(place) {
    for (const one of this.root.querySelectorAll('.lpd-pointed')) one.classList.remove('lpd-pointed');
    if (place) this.root.querySelector(place)?.classList.add('lpd-pointed');
  }

  end() {
    memory.set('guided', true);
    this.point(null);
    this.card.hidden = true;
  }

  destroy() {
    document.removeEventListener('keydown', this.listen);
  }
}
