// From a label set to a data set: what would be written, on which slide it can be scored, and how far the writing is.

import { api } from './api.js';
import { count, h } from './dom.js';
import { trainOn } from './train_on.js';

const LOOK_MS = 500;
const RULE = 'rule';
const NONE = 'none';

export class LabelExport {
  constructor(labels) {
    this.labels = labels;
    this.state = null; // of the export that was started here
    this.name = h('input', { type: 'text', id: 'lpd-export-name', maxLength: 100, required: true });
    this.hold = h('select', { id: 'lpd-export-hold', onchange: () => this.plan() });
    this.licence = h('input', { type: 'text', id: 'lpd-export-licence', maxLength: 200, placeholder: 'not stated' });
    this.replace = h('input', { type: 'checkbox', id: 'lpd-export-replace' });
    this.told = h('div', { class: 'lpd-label-plan', 'aria-live': 'polite' });
    this.bar = h('progress', { max: 1, hidden: true });
    this.said = h('p', { class: 'lpd-hint', role: 'status' });
    this.button = h('button', { type: 'submit', class: 'lpd-primary' }, 'Make data set');
    this.stop = h('button', { type: 'button', class: 'lpd-secondary', hidden: true, onclick: () => this.cancel() }, 'Stop');
    this.train = h('button', { type: 'button', class: 'lpd-primary', hidden: true, title: 'Open the Train tab with this data set chosen', onclick: () => trainOn(this.state.name) }, 'Train on it');
    const field = (id, text, input) => h('div', { class: 'lpd-field' }, h('label', { htmlFor: id }, text), input);
    this.form = h(
      'form',
      { class: 'lpd-label-form' },
      this.told,
      field('lpd-export-name', 'Name', this.name),
      field('lpd-export-hold', 'Score on', this.hold),
      field('lpd-export-licence', 'Licence', this.licence),
      h('label', { class: 'lpd-small', htmlFor: 'lpd-export-replace' }, this.replace, 'Replace one of this name'),
      h('div', { class: 'lpd-shape-acts' }, this.button, this.stop),
      this.bar,
      this.said,
      this.train,
    );
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.begin();
    });
    this.element = h('details', { class: 'lpd-label-export', hidden: true }, h('summary', {}, h('h3', {}, 'Make a data set')), this.form);
    this.element.addEventListener('toggle', () => this.element.open && this.open());
  }

  render(shown) {
    this.element.hidden = !shown;
    const { status } = this.labels;
    if (!shown || !this.element.open || this.planOf === status.revision || this.planning) return;
    this.planOf = status.revision;
    clearTimeout(this.later);
    this.later = setTimeout(() => this.plan(), LOOK_MS);
  }

  open() {
    if (!this.name.value) this.name.value = this.labels.set.name.replace(/[^\w .+-]/g, '-').replace(/^[^\w]+/, '');
    this.plan().then(() => this.button.scrollIntoView({ block: 'nearest' }));
  }

  close() {
    this.element.open = false;
    this.name.value = '';
    this.said.textContent = '';
    this.hold.replaceChildren();
    this.state = this.planOf = null;
    clearTimeout(this.timer);
    clearTimeout(this.later);
    this.showProgress();
  }

  /** Slides to hold out; null leaves it to the rule. */
  get wish() {
    const { value } = this.hold;
    if (value === NONE) return [];
    return value && value !== RULE ? [value] : null;
  }

  async plan() {
    const { id } = this.labels;
    this.planning = true;
    await this.labels.attempt(async () => {
      const plan = await api.labelPlan(id, this.wish);
      if (this.labels.id === id) this.showPlan(plan);
    });
    this.planning = false;
  }

  showPlan(plan) {
    if (plan.going && !this.isGoing) {
      this.state = plan.going;
      this.follow(this.labels.id, plan.going.id);
    }
    const chosen = this.hold.value || RULE;
    const fit = plan.slides.filter((slide) => slide.scored);
    const byRule = chosen === RULE ? plan.slides.filter((slide) => slide.held_out).map((slide) => slide.name) : [];
    this.hold.replaceChildren(
      h('option', { value: RULE }, !fit.length ? 'no slide is reviewed yet' : byRule.length ? `the usual: ${byRule.join(', ')}` : 'the usual: none'),
      h('option', { value: NONE }, 'no slide'),
      ...fit.map((slide) => h('option', { value: slide.fingerprint }, `${slide.name} (${count(slide.scored)} reviewed tiles)`)),
    );
    this.hold.value = [...this.hold.options].some((option) => option.value === chosen) ? chosen : RULE;
    this.hold.disabled = !fit.length;
    const shown = plan.classes.map((entry) => `${entry.name} ${count(entry.tiles)}`);
    if (plan.none) shown.push(`none ${count(plan.none)}`);
    const lines = [h('p', {}, h('strong', {}, `${count(plan.train)} tiles to train on${plan.valid ? `, ${count(plan.valid)} to score on` : ''}`)), shown.length > 0 && h('p', {}, shown.join(', '))];
    for (const note of plan.notes) lines.push(h('p', { class: 'lpd-hint' }, note));
    if (plan.problem) lines.push(h('p', { class: 'lpd-caution' }, `${plan.problem[0].toUpperCase()}${plan.problem.slice(1)}.`));
    this.told.replaceChildren(...lines.filter(Boolean));
    this.problem = Boolean(plan.problem);
    this.showProgress();
  }

  get isGoing() {
    return Boolean(this.state && !this.state.ended);
  }

  async begin() {
    const { id } = this.labels;
    this.said.textContent = '';
    this.button.disabled = true;
    await this.labels.waiting; // what is still being said belongs to it
    await this.labels.attempt(async () => {
      const wish = { name: this.name.value, hold_out: this.wish, replace: this.replace.checked };
      if (this.licence.value.trim()) wish.licence = this.licence.value.trim();
      this.state = await api.labelAct(id, 'exports', wish);
      this.follow(id, this.state.id);
    });
    this.showProgress();
  }

  follow(id, number) {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      const state = await api.labelExport(id, number).catch(() => this.state);
      if (this.labels.id !== id) return;
      this.state = state;
      this.showProgress();
      if (!state.ended) this.follow(id, number);
    }, LOOK_MS);
  }

  async cancel() {
    const { id } = this.labels;
    await this.labels.attempt(() => api.labelAct(id, `exports/${this.state.id}/stop`, {}));
  }

  showProgress() {
    const { state } = this;
    this.bar.hidden = this.stop.hidden = !this.isGoing;
    this.button.disabled = this.isGoing || Boolean(this.problem);
    this.train.hidden = state?.state !== 'done';
    if (!state) return;
    const { done, total } = state.progress;
    if (total) this.bar.value = done / total;
    else this.bar.removeAttribute('value');
    if (!state.ended) this.said.textContent = total ? `${count(done)} of ${count(total)} tiles` : 'Starting …';
    else if (state.state === 'done') this.said.textContent = `“${state.name}” is in the data folder, ready to train on. ${state.said.filter((line) => line.includes('left out') && !line.startsWith('No training')).join(' ')}`.trim();
    else if (state.state === 'cancelled') this.said.textContent = 'Stopped: nothing was written.';
    else this.said.textContent = `It failed: ${(state.message || 'it ended unexpectedly; try again').replace(/\.$/, '')}.`;
    this.said.classList.toggle('lpd-caution', state.ended && state.state !== 'done');
    if (this.toldOf !== state.state) (this.train.hidden ? this.said : this.train).scrollIntoView({ block: 'nearest' });
    this.toldOf = state.state;
  }

  destroy() {
    clearTimeout(this.timer);
    clearTimeout(this.later);
  }
}
