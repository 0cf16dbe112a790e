// One training: how far it is, its curves, pictures and log, and what can be done with it.

import { duration, h, moment } from './dom.js';
import { confirmed } from './dialogs.js';
import { trainApi } from './train_api.js';
import { TrainCurves } from './train_curves.js';
import { inWords, percent } from './train_list.js';
import { TrainEvaluations } from './train_evaluations.js';
import { askPublication } from './train_publish.js';

const GATES = { predicted: 'predicted: as on slides', oracle: 'oracle: told the true label', none: 'none: left open' };

export class TrainRun {
  constructor(acts, { onClone, onGone }) {
    Object.assign(this, { acts, onClone, onGone, name: null, training: null });
    this.title = h('h2');
    this.about = h('p', { class: 'lpd-train-about' });
    this.state = h('strong');
    this.pace = h('span', { class: 'lpd-train-pace' });
    this.bar = h('progress', { 'aria-label': 'Progress', max: 1 });
    this.message = h('p', { class: 'lpd-train-message', role: 'status' });
    this.buttons = h('div', { class: 'lpd-train-buttons' });
    this.curves = new TrainCurves();
    this.scores = h('section', { class: 'lpd-sheet', hidden: true });
    this.pictures = new Previews();
    this.evaluations = new TrainEvaluations(acts);
    this.log = h('pre', { class: 'lpd-log', tabIndex: 0, role: 'group', 'aria-label': 'Last lines of the log' });
    this.logBox = h('details', { class: 'lpd-sheet', ontoggle: () => this.readLog() }, h('summary', {}, 'Log'), this.log);
    const head = h('header', { class: 'lpd-sheet lpd-train-head' }, h('div', { class: 'lpd-train-title' }, h('div', {}, this.title, this.about), this.buttons), h('div', { class: 'lpd-train-state' }, this.state, this.pace), this.bar, this.message);
    this.element = h('div', { class: 'lpd-train-run' }, head, h('div', { class: 'lpd-charts' }, this.curves.elements), this.scores, this.pictures.element, this.evaluations.element, this.logBox);
  }

  open(name) {
    if (name === this.name) return;
    Object.assign(this, { name, training: null });
    this.curves.forget();
    this.pictures.forget();
    this.evaluations.forget();
    this.logBox.open = false;
    for (const part of [this.title, this.about, this.state, this.pace, this.message]) part.textContent = '';
    this.buttons.replaceChildren();
    this.scores.hidden = true;
  }

  get counts() {
    return this.curves.counts;
  }

  /** Look again; `listed` is what the list says of it, undefined if it is gone. */
  async look(listed) {
    if (!listed) return this.name && this.onGone();
    const name = this.name;
    const training = await this.curves.look(name).catch((error) => {
      if (error.status === 404) return null; // deleted in this moment
      throw error;
    });
    if (name !== this.name || !training) return;
    const before = this.training;
    this.training = training;
    this.render(before);
    if (this.logBox.open && (!training.ended || !before?.ended)) await this.readLog();
  }

  render(before) {
    const { training } = this;
    const { done, total, rate } = training.progress;
    this.title.textContent = training.name;
    this.about.textContent = [training.data && `on ${training.data}`, `begun ${moment(training.created)}`, training.user && `by ${training.user}`, training.terminal && 'started in a terminal'].filter(Boolean).join(' · ');
    this.state.textContent = sentence(inWords(training));
    this.pace.textContent = total ? [`step ${done} of ${total}`, !training.ended && rate && pace(rate), training.ended && done && `took ${duration(this.curves.seconds ?? training.updated - training.started)}`].filter(Boolean).join(' · ') : '';
    this.bar.hidden = training.state === 'done' || (training.ended && !total);
    if (total) Object.assign(this.bar, { max: total, value: done });
    else this.bar.removeAttribute('value');
    const trouble = ['failed', 'crashed'].includes(training.state);
    this.message.classList.toggle('lpd-trouble', trouble);
    const message = sentence(training.message);
    if (this.message.textContent !== message) this.message.textContent = message;
    if (trouble && !before?.ended) this.logBox.open = true;
    const now = JSON.stringify([training.state, training.message, training.can_go_on, training.exact, training.checkpoints, training.has_settings]);
    if (now !== this.shownButtons || !before) this.renderButtons();
    this.shownButtons = now;
    this.renderScores();
    this.pictures.render(training);
    this.evaluations.render(training);
  }

  renderButtons() {
    const { training, acts } = this;
    const mine = acts.mayChange(training);
    const title = mine ? null : `${training.user || 'Somebody else'} started this: ask them`;
    const button = (text, kind, act, words) => h('button', { type: 'button', class: kind, disabled: !mine, title: title ?? words, onclick: () => acts.attempt(act) }, text);
    const made = [];
    if (!training.ended) {
      made.push(button('Stop', 'lpd-secondary', () => this.change('stop'), 'Ends after the step in hand; what it has learned is saved, calibrated and scored'));
      made.push(button('Kill', 'lpd-quiet', () => this.kill(), 'Ends the process at once; what was saved last stays'));
    } else {
      if (training.can_go_on) made.push(button(training.exact ? 'Resume' : 'Start again', 'lpd-primary', () => this.goOn(), training.exact ? 'Goes on exactly where it last saved itself' : 'It ended before it had saved itself: begins anew'));
      if (training.checkpoints.length) made.push(h('button', { type: 'button', class: training.state === 'done' ? 'lpd-primary' : 'lpd-secondary', title: 'Put its checkpoint among the models, with a card', onclick: () => acts.attempt(() => askPublication(acts, training)) }, 'Publish …'));
    }
    if (training.has_settings) {
      made.push(h('button', { type: 'button', class: 'lpd-secondary', title: 'Fill in a new training with these settings', onclick: () => this.onClone(training.name) }, 'Use settings'));
      made.push(h('a', { class: 'lpd-quiet', href: trainApi.configFile(training.name), download: '', title: 'All settings as YAML, which lpd train --config takes' }, 'YAML'));
    }
    if (training.ended) made.push(button('Delete', 'lpd-quiet', () => this.remove(), 'Deletes the folder of this training; published models stay'));
    this.buttons.replaceChildren(...made);
  }

  async change(what) {
    this.training = await trainApi.change(this.name, what);
    await this.acts.changed();
  }

  async goOn() {
    const { name, exact, checkpoints } = this.training;
    // Without a snapshot it begins anew, over what an earlier try has saved.
    const costs = !exact && checkpoints.length;
    if (costs && !(await confirmed(this.acts.root, `Start ${name} again? What it had saved so far (${checkpoints.join(', ')}) is replaced; to keep it, publish it first.`, 'Start again'))) return;
    await this.change('go-on');
  }

  async kill() {
    const kept = this.training.exact ? 'It can be resumed from the last end of an epoch.' : 'It has not saved itself yet, so all of it is lost.';
    if (await confirmed(this.acts.root, `End ${this.name} at once? ${kept}`, 'Kill')) await this.change('kill');
  }

  async remove() {
    const name = this.name;
    if (!(await confirmed(this.acts.root, `Delete ${name} with its checkpoints, curves and log? Models that were published of it stay.`, 'Delete'))) return;
    await trainApi.remove(name);
    this.name = null;
    await this.onGone();
  }

  async readLog() {
    if (!this.logBox.open || !this.name) return;
    await this.acts.attempt(async () => {
      const { text } = await trainApi.log(this.name);
      const end = this.log.scrollTop + this.log.clientHeight >= this.log.scrollHeight - 4;
      if (this.log.textContent !== text) this.log.textContent = text || 'Nothing was printed yet.';
      if (end) this.log.scrollTop = this.log.scrollHeight;
    });
  }

  renderScores() {
    const rows = this.curves.newest;
    this.scores.hidden = !rows.length;
    if (!rows.length) return;
    const codes = Object.keys(rows[0].iou ?? {});
    const table = h(
      'table',
      {},
      h('thead', {}, h('tr', {}, ['Gate', 'mIoU', 'mDice', ...codes.map((code) => `IoU ${code}`)].map((text) => h('th', { scope: 'col' }, text)))),
      h('tbody', {}, rows.map((row) => h('tr', {}, h('th', { scope: 'row' }, GATES[row.gate] ?? row.gate), [row.miou, row.mdice, ...codes.map((code) => row.iou[code])].map((value) => h('td', {}, percent(value)))))),
    );
    this.scores.replaceChildren(h('h3', {}, `Newest scores on valid, step ${this.curves.valid.at(-1).step}`), table);
  }

  destroy() {
    this.curves.destroy();
  }
}

/** Pictures of valid tiles at each validation: truth, prediction and confidence; a slider goes through them. */
class Previews {
  constructor() {
    this.image = h('img', { alt: '' });
    this.slider = h('input', { type: 'range', min: 0, step: 1, 'aria-label': 'Validation', oninput: () => this.choose(this.slider.valueAsNumber) });
    this.label = h('span');
    this.element = h('section', { class: 'lpd-sheet lpd-previews', hidden: true }, h('h3', {}, 'What it makes of valid tiles'), h('div', { class: 'lpd-preview-bar' }, this.slider, this.label), this.image);
  }

  forget() {
    Object.assign(this, { steps: [], name: null });
    this.element.hidden = true;
  }

  render({ name, previews }) {
    if (String(previews) === String(this.steps) && name === this.name) return;
    const last = this.name !== name || this.slider.valueAsNumber >= this.steps.length - 1;
    Object.assign(this, { steps: previews, name });
    this.element.hidden = !previews.length;
    this.slider.max = Math.max(0, previews.length - 1);
    this.slider.hidden = previews.length < 2;
    if (previews.length) this.choose(last ? previews.length - 1 : this.slider.valueAsNumber);
  }

  choose(index) {
    const step = this.steps[index];
    this.slider.value = index;
    this.label.textContent = `step ${step}`;
    this.image.src = trainApi.preview(this.name, step);
    this.image.alt = `Tiles of valid with truth, prediction and confidence at step ${step}`;
  }
}

/** A name of a file that begins it stays as it is. */
const sentence = (text) => (/^[a-z][a-z’]*( |$)/.test(text) ? text[0].toUpperCase() + text.slice(1) : text);
const pace = (rate) => (rate < 1 ? `${(1 / rate).toFixed(1)} s a step` : `${rate.toFixed(1)} steps a second`);
