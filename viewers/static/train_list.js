// The trainings at the left: newest first, with state, progress and score; ticks choose those to compare.

import { duration, h, moment } from './dom.js';
import { place } from './job_list.js';

const STATES = { done: 'finished', cancelled: 'stopped', failed: 'failed', crashed: 'ended unexpectedly' };

/** A training's state in a few words. */
export function inWords(training) {
  if (training.ended) return STATES[training.state] ?? training.state;
  const { done, total, eta_s: eta } = training.progress;
  if (training.message.startsWith('Stopping')) return 'stopping';
  if (training.state === 'queued') return place(training) || (training.message === 'Starting …' ? 'starting' : 'waiting for the device');
  return total ? `${Math.floor((100 * done) / total)} %${eta > 0.5 && done < total ? `, ${duration(eta)} left` : ''}` : 'starting';
}

export const percent = (value) => (value === null || value === undefined ? '–' : (100 * value).toFixed(1));

export class TrainList {
  constructor({ onNew, onOpen, onCompare }) {
    Object.assign(this, { onOpen, onCompare, ticked: new Set() });
    this.fresh = h('button', { type: 'button', class: 'lpd-primary', onclick: onNew }, 'New training');
    this.compare = h('button', { type: 'button', class: 'lpd-secondary', disabled: true, title: 'Tick two or more trainings to compare their settings, scores and curves', onclick: () => onCompare([...this.ticked]) }, 'Compare ticked');
    this.rows = h('div', { class: 'lpd-train-rows', role: 'list' });
    this.empty = h('p', { class: 'lpd-hint' }, 'No training yet. A first one takes minutes: choose a data set, a preset, and press Start.');
    this.elsewhere = h('p', { class: 'lpd-hint', hidden: true });
    this.element = h('nav', { class: 'lpd-train-list', 'aria-label': 'Trainings' }, h('div', { class: 'lpd-train-acts' }, this.fresh, this.compare), this.rows, this.empty, this.elsewhere);
  }

  /** command: what starts TensorBoard on the trainings; empty where it is not installed. */
  tellOfTensorBoard(command) {
    const there = Object.assign(new URL(location.origin), { port: 6006 });
    const link = h('a', { href: there.href, target: '_blank', rel: 'noopener' }, 'TensorBoard');
    this.elsewhere.hidden = !command;
    this.elsewhere.replaceChildren(link, ' draws these curves, too, once it runs: ', h('code', {}, command));
  }

  render(trainings, current) {
    const names = new Set(trainings.map((training) => training.name));
    for (const name of this.ticked) if (!names.has(name)) this.ticked.delete(name);
    this.empty.hidden = trainings.length > 0;
    const focused = document.activeElement?.dataset?.training;
    this.rows.replaceChildren(...trainings.map((training) => this.row(training, current)));
    if (focused) this.rows.querySelector(`[data-training="${CSS.escape(focused)}"]`)?.focus();
    this.fresh.setAttribute('aria-pressed', String(current === null));
    this.compare.disabled = this.ticked.size < 2;
  }

  row(training, current) {
    const { name, state, scores } = training;
    const { done, total } = training.progress;
    const score = scores?.last?.predicted; // the best of many looks would flatter
    const tick = h('input', { type: 'checkbox', checked: this.ticked.has(name), 'aria-label': `Compare ${name}`, title: 'Choose to compare', onchange: () => this.tick(name, tick.checked) });
    const open = h(
      'button',
      { type: 'button', class: 'lpd-train-row', 'data-training': name, 'data-state': state, 'aria-current': name === current ? 'true' : null, onclick: () => this.onOpen(name) },
      h('span', { class: 'lpd-name' }, name),
      h('span', { class: 'lpd-about' }, [inWords(training), score ? `mIoU ${percent(score)}` : '', training.ended ? moment(training.created) : '', training.user].filter(Boolean).join(' · ')),
      !training.ended && total ? h('progress', { max: total, value: done, 'aria-label': `Progress of ${name}` }) : null,
    );
    return h('div', { class: 'lpd-train-item', role: 'listitem' }, tick, open);
  }

  tick(name, on) {
    if (on) this.ticked.add(name);
    else this.ticked.delete(name);
    this.compare.disabled = this.ticked.size < 2;
  }
}
