// The address of the page says what is looked at: slide, place, result, layers; whoever opens it sees the same.

import { NAMES } from './view_address.js';

const WAIT_MS = 350;

export class Permalink {
  constructor(read) {
    this.read = read; // () => {name: text} of what the page shows
    const given = new URLSearchParams(location.search);
    this.asked = Object.fromEntries(NAMES.filter((name) => given.has(name)).map((name) => [name, given.get(name)]));
  }

  /** Take what the address asked for of one slide, once. */
  take(slideId) {
    const { asked } = this;
    this.asked = {};
    return asked.slide === slideId ? asked : {};
  }

  note() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.write(), WAIT_MS);
  }

  write() {
    clearTimeout(this.timer);
    history.replaceState(history.state, '', this.address);
  }

  get address() {
    const address = new URL(location.href);
    for (const [name, value] of Object.entries(this.read())) {
      if (value === null || value === undefined || value === '') address.searchParams.delete(name);
      else address.searchParams.set(name, value);
    }
    return address;
  }

  destroy() {
    clearTimeout(this.timer);
  }
}
