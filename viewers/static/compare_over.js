// Over what a thing is looked at: this slide, those of its folder, all that the model has maps of, or a split of a data set.

import { api } from './api.js';
import { h } from './dom.js';

const OVER = { slide: 'This slide', folder: 'Slides of its folder', all: 'All slides' };

/** The splits of data sets as groups of a select, all or those with masks; each value leads to `{ id, split, name, count }` in `known`. */
export function dataOptions(sets, known, masked = false) {
  known.clear();
  return sets.map(({ id, name, splits }) =>
    h('optgroup', { label: name }, Object.entries(splits).filter(([split, count]) => count && !(masked && split === 'train')).map(([split, count]) => {
      const value = `${id} ${split}`;
      known.set(value, { id, split, name, count });
      return h('option', { value }, `${name}, ${split} (${count})`);
    })),
  );
}

/** A select with the label `name`; `value` says what is chosen, `data` which split of a data set, null of slides. */
export function overChoice(name, onChange, masked = false) {
  const known = new Map();
  const slides = () => Object.entries(OVER).map(([value, text]) => h('option', { value }, text));
  const select = h('select', { 'aria-label': name, onchange: onChange }, slides());
  const title = 'Other slides count as far as the very same model has maps of them: the newest result of each, a whole one if there is one. Over a data set the network runs once, which can take minutes, and the answer is kept';
  return {
    element: h('label', { class: 'lpd-over', title }, h('span', {}, 'Over'), select),
    get value() {
      return select.value;
    },
    get data() {
      return known.get(select.value) ?? null;
    },
    /** What was asked of a data set cannot be had. */
    backToSlides() {
      select.value = 'slide';
      onChange();
    },
    /** Data sets to choose from; what is chosen stays so if it is still there. */
    offer(sets) {
      const before = select.value;
      select.replaceChildren(...slides(), ...dataOptions(sets, known, masked));
      select.value = before;
      if (select.selectedIndex < 0) select.value = 'slide';
    },
  };
}

/** What models answer over data sets, asked for once; what nobody looks at any more is given up. */
export class DataAnswers {
  constructor() {
    this.asked = new Map(); // model and split -> { promise, abort, done }
  }

  get(data, model) {
    const key = `${data.id} ${data.split} ${model}`;
    if (!this.asked.has(key)) {
      const control = new AbortController();
      const one = { abort: () => control.abort(), done: false };
      one.promise = api.prototypesOverData(data, model, control.signal).then(
        (found) => {
          one.done = true;
          return found;
        },
        (error) => {
          if (this.asked.get(key) === one) this.asked.delete(key);
          throw control.signal.aborted ? null : error;
        },
      );
      this.asked.set(key, one);
    }
    return this.asked.get(key).promise;
  }

  /** Give up what is not looked at: `wanted` are pairs of a split and a model. */
  keep(wanted) {
    const keys = new Set(wanted.map(([data, model]) => `${data.id} ${data.split} ${model}`));
    for (const [key, one] of this.asked) {
      if (one.done || keys.has(key)) continue;
      this.asked.delete(key);
      one.abort();
    }
  }

  forget() {
    for (const [key, one] of this.asked) if (one.done) this.asked.delete(key); // a model or a data set may be another by now
  }
}
