// What runs and waits on the devices: whose it is, how far or which place in the line, and a way to stop one's own.

import { duration, h } from './dom.js';

const ORDINALS = { 1: '1st', 2: '2nd', 3: '3rd' };
const DEVICES = { cpu: 'CPU', cuda: 'GPU', mps: 'GPU' };

/** Where a job stands in the line for its device, in words; empty if it does not wait behind another. */
export function place(job) {
  const position = job.queue_position;
  return position ? `${ORDINALS[position] ?? `${position}th`} in line for the ${DEVICES[job.device]}` : '';
}

export class JobList {
  constructor({ onOpen, onCancel, mayCancel }) {
    Object.assign(this, { onOpen, onCancel, mayCancel });
    this.title = h('h2', {}, 'Jobs');
    this.rows = h('div', { class: 'lpd-job-rows' });
    this.element = h('section', { class: 'lpd-jobs', 'aria-label': 'Jobs', hidden: true }, this.title, this.rows);
  }

  render(jobs) {
    const going = jobs.filter((job) => !job.ended).sort((a, b) => (a.queue_position ?? 0) - (b.queue_position ?? 0) || a.created - b.created);
    this.element.hidden = !going.length;
    const waiting = going.filter((job) => job.queue_position).length;
    this.title.textContent = `At work ${going.length - waiting} · waiting ${waiting}`;
    this.rows.replaceChildren(...going.map((job) => this.row(job)));
  }

  row(job) {
    const mine = this.mayCancel(job);
    const { done, total, eta_s: eta } = job.progress;
    const stopping = job.message.startsWith('Stopping');
    const state = stopping ? 'stopping' : place(job) || (total ? `${Math.floor((100 * done) / total)} %${eta > 0.5 ? `, ${duration(eta)} left` : ''}` : 'starting');
    const title = mine ? `Stop segmenting ${job.slide_name}; what is computed so far is kept` : `${job.user || 'Somebody else'} started this: ask them to cancel it`;
    const cancel = h('button', { type: 'button', class: 'lpd-job-cancel', title, 'aria-label': `Cancel ${job.slide_name}`, disabled: !mine || stopping, onclick: () => this.onCancel(job) }, '×');
    const open = h(
      'button',
      { type: 'button', class: 'lpd-job', title: `Open ${job.slide_name}\n${job.checkpoint}`, onclick: () => this.onOpen(job) },
      h('span', { class: 'lpd-name' }, job.slide_name),
      h('span', { class: 'lpd-about' }, [state, job.user].filter(Boolean).join(' · ')),
    );
    return h('div', { class: 'lpd-job-row' }, open, cancel);
  }
}
