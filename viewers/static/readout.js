// What lies under the pointer: the class at once, its score when the pointer rests.

import { api } from './api.js';

const REST_MS = 150; // how long the pointer rests before scores are asked for

export class Readout {
  /** `of` has the layers, view, job and classes that are shown. */
  constructor(of) {
    this.of = of;
    this.rested = null;
  }

  forget() {
    this.rested = null;
  }

  /** The words for a point of the mask; null where there is none. */
  classAt(x, y) {
    const value = this.of.layers.on.mask ? this.of.layers.mask.valueAt(x, y) : null;
    if (value === null) return null;
    const name = this.of.classes[value]?.name;
    // The score is the model's, which is not what a person's word has.
    if (this.of.layers.on.review && this.of.layers.stack.review.valueAt(x, y) !== null) return `${name} · reviewed`;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const { rested } = this;
    if (rested?.x === column && rested.y === row && rested.value === value) return `${name}${rested.text}`;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.askScore(column, row, value), REST_MS);
    return name;
  }

  async askScore(x, y, value) {
    const { job } = this.of;
    const { scores } = await api.value(job?.id, x, y).catch(() => ({}));
    if (this.of.job !== job && this.of.job?.id !== job?.id) return;
    this.rested = { x, y, value, text: scores && value < scores.length ? ` ${scores[value].toFixed(2)}` : '' };
    this.of.view.describeReadout();
  }

  destroy() {
    clearTimeout(this.resting);
  }
}
