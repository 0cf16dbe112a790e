// How long a training will take and what it needs: a few real steps, measured by a command that can be given up.

import { bytes, count, duration, h, trim } from './dom.js';
import { trainApi } from './train_api.js';

const LOOK_MS = 1000;

export class Estimate {
  constructor(wish) {
    Object.assign(this, { wish, id: null, round: 0 });
    this.button = h('button', { type: 'button', class: 'lpd-secondary', title: 'Does a few real steps on these tiles and writes nothing: takes some seconds', onclick: () => this.press() }, 'Estimate time and memory');
    this.says = h('p', { class: 'lpd-hint', role: 'status' });
    this.element = h('div', { class: 'lpd-estimate' }, this.button, this.says);
  }

  offer(can) {
    this.button.disabled = !can && this.id === null;
  }

  /** What was measured is of other settings now. */
  forget() {
    this.giveUp();
    this.says.textContent = '';
  }

  giveUp() {
    this.round += 1;
    if (this.id !== null) trainApi.giveUpMeasuring(this.id).catch(() => null); // it may have ended
    this.id = null;
    this.button.textContent = 'Estimate time and memory';
  }

  async press() {
    if (this.id !== null) return this.forget();
    const round = (this.round += 1);
    this.says.textContent = 'Measuring …';
    this.says.classList.remove('lpd-trouble');
    try {
      const { id, trainings } = await trainApi.measure(this.wish());
      if (round !== this.round) return void trainApi.giveUpMeasuring(id).catch(() => null);
      this.id = id;
      this.button.textContent = 'Stop measuring';
      let told = { state: 'running' };
      while (told.state === 'running') {
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
        told = await trainApi.measured(id);
        if (round !== this.round) return;
      }
      if (told.state === 'failed') throw new Error(told.error);
      this.says.textContent = inWords(told.found, trainings);
    } catch (error) {
      if (round !== this.round) return;
      this.says.textContent = error.message;
      this.says.classList.add('lpd-trouble');
    }
    this.id = null;
    this.button.textContent = 'Estimate time and memory';
  }
}

function inWords({ device, steps, step_s: early, joined_step_s: late, look_s: look, looks, bank_s: bank, total_s: total, memory_bytes: memory }, trainings) {
  const pace = [early, late].filter((value) => value !== null).map((value) => `${trim(value)} s`);
  const parts = [`About ${duration(total)} on ${device}${trainings > 1 ? ` for each of ${trainings}` : ''}: ${count(steps)} steps of ${[...new Set(pace)].join(', later ')}, scored ${looks === 1 ? 'once' : `${looks} times`} in ${trim(look)} s.`];
  if (bank !== null) parts.push(`Of these, ${duration(bank)} for clustering the tiles first.`);
  if (memory) parts.push(`It needs ${bytes(memory)} of memory.`);
  return parts.join(' ');
}
