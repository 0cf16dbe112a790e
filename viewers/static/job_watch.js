// Watches one job: asks what is new, again and again, slower when nobody looks, and never gives up while it runs.

import { api } from './api.js';

const QUICK_MS = 600;
const HIDDEN_MS = 4000;
const LOST_MS = 2000;

export class JobWatch {
  constructor({ onGrow, onState, onLost, onGone }) {
    this.onGrow = onGrow;
    this.onState = onState;
    this.onLost = onLost;
    this.onGone = onGone;
    this.round = 0;
  }

  start(id) {
    this.stop();
    this.follow(id, this.round);
  }

  stop() {
    this.round += 1;
    clearTimeout(this.timer);
  }

  async follow(id, round) {
    let since = 0;
    let run = ''; // a result that is begun anew is another run, whose revisions count from 1 again
    let lost = false;
    for (;;) {
      let wait = document.hidden ? HIDDEN_MS : QUICK_MS;
      try {
        const { run: current, revision, rects, job } = await api.changes(id, since, run);
        if (round !== this.round) return;
        if (lost) this.onLost((lost = false));
        this.onState(job);
        if (current !== run || revision !== since) this.onGrow(rects, revision, current);
        [since, run] = [revision, current];
        if (job.ended) return;
      } catch (error) {
        if (round !== this.round) return;
        if (error.status === 404) return this.onGone(id);
        if (!lost) this.onLost((lost = true), error);
        wait = LOST_MS;
      }
      await new Promise((resolve) => (this.timer = setTimeout(resolve, wait)));
      if (round !== this.round) return;
    }
  }
}
