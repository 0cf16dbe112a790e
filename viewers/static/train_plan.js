// The summary of a new training: its name, what is trained beside it, the command that it comes to, and Start.

import { h } from './dom.js';
import { Estimate } from './train_estimate.js';

const DEVICES = { auto: 'the best there is', cpu: 'CPU', cuda: 'NVIDIA GPU', mps: 'Apple GPU' };

export class TrainPlan {
  constructor({ onChange, onStart, onLoad, onSave, wish }) {
    this.estimate = new Estimate(wish);
    this.nameInput = h('input', { id: 'lpd-train-name', maxLength: 80, autocomplete: 'off', spellcheck: false, oninput: onChange, 'aria-describedby': 'lpd-train-name-says' });
    this.nameSays = h('span', { id: 'lpd-train-name-says', class: 'lpd-field-says', role: 'alert' });
    this.device = h('select', { id: 'lpd-train-device', onchange: onChange }, Object.entries(DEVICES).map(([value, text]) => h('option', { value }, text)));
    this.kmeans = h('input', { type: 'checkbox', onchange: onChange });
    this.linear = h('input', { type: 'checkbox', onchange: onChange });
    this.seeds = h('input', { id: 'lpd-train-seeds', placeholder: 'several: 0 1 2', title: 'A training for each of these seeds', oninput: onChange });
    this.sweep = h('input', { id: 'lpd-train-sweep', placeholder: 'several: 0 0.5', title: 'A training for each of these weights of L_div', oninput: onChange });
    this.runs = h('p', { class: 'lpd-hint' });
    this.problems = h('p', { class: 'lpd-trouble', role: 'alert' });
    this.startButton = h('button', { type: 'button', class: 'lpd-primary', disabled: true, onclick: onStart }, 'Start');
    this.command = h('pre', { class: 'lpd-command', tabIndex: 0, role: 'group', 'aria-label': 'The same as commands' });
    this.copy = h('button', { type: 'button', class: 'lpd-link', onclick: () => this.copyCommand() }, 'copy');
    const file = h('input', { type: 'file', accept: '.yaml,.yml', hidden: true, onchange: () => file.files[0] && (onLoad(file.files[0]), (file.value = '')) });
    const tick = (input, text, title) => h('label', { class: 'lpd-tick', title }, input, h('span', {}, text));
    this.element = h(
      'aside',
      { class: 'lpd-sheet lpd-plan', 'aria-label': 'Start' },
      h('h2', {}, 'Start'),
      h('div', { class: 'lpd-set' }, h('label', { htmlFor: 'lpd-train-name' }, 'Name'), this.nameInput, this.nameSays),
      h('div', { class: 'lpd-set' }, h('label', { htmlFor: 'lpd-train-device' }, 'Device'), this.device),
      h('h3', {}, 'Trained alike, to compare with'),
      tick(this.kmeans, 'with clustered prototypes', 'Clusters the tiles of one class alone into a bank first; those prototypes stay as they are'),
      tick(this.linear, 'plain CAM, without prototypes', 'One weight vector a class and scale: the floor that prototypes should beat'),
      h('div', { class: 'lpd-pair-fields' }, h('div', { class: 'lpd-set' }, h('label', { htmlFor: 'lpd-train-seeds' }, 'Seeds'), this.seeds), h('div', { class: 'lpd-set' }, h('label', { htmlFor: 'lpd-train-sweep' }, 'λ_div'), this.sweep)),
      this.problems,
      this.runs,
      this.estimate.element,
      this.startButton,
      h('div', { class: 'lpd-sheet-head' }, h('h3', {}, 'The same in a terminal'), this.copy),
      this.command,
      h('p', { class: 'lpd-plan-files' }, h('button', { type: 'button', class: 'lpd-link', onclick: onSave }, 'save settings'), h('button', { type: 'button', class: 'lpd-link', onclick: () => file.click() }, 'load settings …'), file),
    );
  }

  get name() {
    return this.nameInput.value;
  }

  set name(text) {
    this.nameInput.value = text;
  }

  get wish() {
    const also = [this.kmeans.checked && 'kmeans', this.linear.checked && 'linear'].filter(Boolean);
    return { name: this.name.trim(), device: this.device.value, also, seeds: numbers(this.seeds.value), diversity: numbers(this.sweep.value) };
  }

  /** What is no value among those of a sweep, as a sentence; empty if all are. */
  get trouble() {
    const wrong = (input, sound) => words(input.value).find((word) => !sound(Number(word)));
    const seed = wrong(this.seeds, (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32);
    if (seed !== undefined) return `Seed ${seed} must be a whole number from 0 to ${2 ** 32 - 1}.`;
    const weight = wrong(this.sweep, (value) => value >= 0 && value <= 1e6);
    return weight === undefined ? '' : `λ_div ${weight} must be a number from 0 to 1000000.`;
  }

  /** Something was changed and is being checked. */
  waiting() {
    this.estimate.forget();
    this.startButton.disabled = true;
  }

  tell({ problems, names, commands }, others) {
    const own = others.filter(([path]) => path !== 'name').map(([, text]) => text);
    if (this.name.trim() === '' ) own.push('Give it a name.');
    this.nameSays.textContent = problems.name ?? '';
    this.nameInput.setAttribute('aria-invalid', String(Boolean(problems.name)));
    this.problems.textContent = own.join(' ');
    this.startButton.disabled = Object.keys(problems).length > 0 || own.length > 0 || !names.length;
    this.estimate.offer(!Object.keys(problems).some((path) => path !== 'name') && names.length > 0);
    this.startButton.textContent = names.length > 1 ? `Start ${names.length} trainings` : 'Start';
    this.runs.textContent = names.length > 1 ? `One after another: ${names.join(', ')}.` : '';
    this.command.textContent = commands.join('\n\n');
  }

  /** What was asked for once is not asked for again by the next press. */
  started() {
    this.kmeans.checked = this.linear.checked = false;
    this.seeds.value = this.sweep.value = '';
  }

  async copyCommand() {
    try {
      await navigator.clipboard.writeText(this.command.textContent);
      this.copy.textContent = 'copied';
    } catch {
      getSelection().selectAllChildren(this.command); // where the browser forbids it, one key is left to press
      this.copy.textContent = 'press Ctrl+C';
    }
    setTimeout(() => (this.copy.textContent = 'copy'), 2500);
  }
}

/** What stands in a line, apart by spaces or commas. */
const words = (text) => text.split(/[\s,;]+/).filter(Boolean);
const numbers = (text) => words(text).map(Number);
