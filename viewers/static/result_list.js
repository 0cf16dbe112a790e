// The results of a slide, side by side: which one is shown, by which model, when it was made and by whom.

import { h, moment } from './dom.js';

const STATES = { done: 'finished', cancelled: 'stopped early', failed: 'failed', crashed: 'ended unexpectedly', queued: 'waiting', running: 'at work' };

const what = (job) => (job.polygons ? 'region' : job.region_l0 ? 'view' : 'slide');

export class ResultList {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.element = h('div', { class: 'lpd-results', role: 'radiogroup', 'aria-label': 'Result' });
  }

  render(jobs, shown) {
    const key = JSON.stringify(jobs.map((job) => [job.id, job.state]));
    if (this.key !== key) {
      this.key = key;
      this.element.replaceChildren(...jobs.map((job) => this.row(job)));
    }
    for (const input of this.element.querySelectorAll('input')) input.checked = input.value === shown.id;
  }

  row(job) {
    const input = h('input', { type: 'radio', name: 'lpd-result', value: job.id });
    input.addEventListener('change', () => this.onChoose(job.id));
    const about = [moment(job.created), what(job), job.user, STATES[job.state] ?? job.state].filter(Boolean).join(' · ');
    return h(
      'label',
      { class: 'lpd-result-row', title: `Show this result over the slide\n${job.checkpoint}\n${about}` },
      input,
      h('span', { class: 'lpd-lines' }, h('span', { class: 'lpd-name' }, job.checkpoint), h('span', { class: 'lpd-about' }, about)),
    );
  }
}
