// Over what a thing is looked at: this slide, those of its folder, all that the model has maps of, or a split of a data set.

import { api } from './api.js';
import { count, h } from './dom.js';

const ASK_MS = 1000;
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
  constructor(onProgress) {
    this.onProgress = onProgress;
    this.who = Math.random().toString(36).slice(2); // another page may want the same pass
    this.asked = new Map(); // model and split -> { promise, progress, done, given }
  }

  /** The answer for a model, `{ name, digest }`; null is thrown if it was given up. */
  get(data, model) {
    const key = keyOf(data, model);
    if (!this.asked.has(key)) {
      const one = { data, model, progress: null, done: false, given: false };
      one.promise = this.wait(one).catch((error) => {
        if (this.asked.get(key) === one) this.asked.delete(key);
        throw one.given ? null : error;
      });
      this.asked.set(key, one);
    }
    return this.asked.get(key).promise;
  }

  async wait(one) {
    const { data, model } = one;
    for (;;) {
      const found = await api.prototypesOverData(data, model, this.who);
      if (one.given) throw null;
      if (!found.progress) {
        one.done = true;
        return found;
      }
      one.progress = found.progress;
      while (one.progress) {
        this.onProgress();
        await new Promise((resolve) => setTimeout(resolve, ASK_MS));
        if (one.given) throw null;
        one.progress = await this.far(one);
      }
    }
  }

  /** How far a pass is; an app that does not answer for a moment may be asked again. */
  async far({ data, model, progress }) {
    try {
      return (await api.dataProgress(data, model, this.who)).progress;
    } catch (error) {
      if (error.status === 0) return progress;
      throw error;
    }
  }

  /** How far the answer for a model is in words; empty where nothing is awaited. */
  words(data, model) {
    const one = this.asked.get(keyOf(data, model));
    if (!one || one.done) return '';
    const { done, total, waiting } = one.progress ?? { waiting: true };
    if (waiting) return 'waiting for its turn';
    return total ? `${count(done)} of ${count(total)} tiles` : 'starting';
  }

  /** Give up what is not looked at: `wanted` are pairs of a split and a model's name. */
  keep(wanted) {
    const kept = ({ data, model }) => wanted.some(([{ id, split }, name]) => id === data.id && split === data.split && name === model.name);
    for (const [key, one] of this.asked) {
      if (one.done || kept(one)) continue;
      this.asked.delete(key);
      one.given = true;
      api.leaveData(one.data, one.model, this.who).catch(() => undefined); // else it is given up by itself in a while
    }
  }

  forget() {
    for (const [key, one] of this.asked) if (one.done) this.asked.delete(key); // a model or a data set may be another by now
  }

  destroy() {
    this.keep([]);
  }
}

/** How far both sides' passes over a data set are, and a way to stop them. */
export class PassNote {
  constructor(answers, onStop) {
    this.answers = answers;
    this.said = h('span');
    const stop = h('button', { type: 'button', class: 'lpd-link', title: 'Give this up; what was computed is lost', onclick: onStop }, 'Stop');
    this.element = h('p', { class: 'lpd-hint', hidden: true, 'data-said': 'pass' }, this.said, ' ', stop);
  }

  /** `sides` are those that are ready, `data` what is looked at, null of slides. */
  show(data, sides) {
    const parts = data ? sides.map((side) => [side, this.answers.words(data, side.made)]).filter(([, words]) => words) : [];
    this.element.hidden = !parts.length;
    if (parts.length) this.said.textContent = `Running over ${data.name}, ${data.split}. ${parts.map(([side, words]) => `${side.name === 'left' ? 'Left' : 'Right'}: ${words}.`).join(' ')}`;
  }
}

const keyOf = ({ id, split }, { name, digest }) => `${id} ${split} ${name} ${digest}`;
