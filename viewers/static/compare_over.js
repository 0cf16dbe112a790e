// Over which slides a thing is looked at: this one, those of its folder, or all that the model has maps of.

import { h } from './dom.js';

const OVER = { slide: 'This slide', folder: 'Slides of its folder', all: 'All slides' };

/** A select with the label `name`; `value` says what is chosen. */
export function overChoice(name, onChange) {
  const select = h('select', { 'aria-label': name, onchange: onChange }, Object.entries(OVER).map(([value, text]) => h('option', { value }, text)));
  const title = 'Other slides count as far as the very same model has maps of them: the newest result of each, a whole one if there is one';
  return {
    element: h('label', { class: 'lpd-over', title }, h('span', {}, 'Over'), select),
    get value() {
      return select.value;
    },
  };
}
