// The settings: a preset, where the encoder starts, the few that people change, and all others with their words of help.

import { h } from './dom.js';

const FEW = {
  'optimizer.epochs': 'Epochs',
  'optimizer.batch_size': 'Batch size',
  'optimizer.learning_rate': 'Learning rate',
  'prototypes.per_class': 'Prototypes a class',
  'losses.diversity.weight': 'λ_div, diversity',
  'losses.pixels.weight': 'λ_pix, pixels',
  'losses.similarity.tower': 'Tower of L_sim',
  'losses.similarity.weight': 'λ_sim, similarity',
  'loop.seed': 'Seed',
  'loop.validate_every': 'Score every … epochs',
};
/** What the page starts with where presets say nothing of use here: a look at valid after every epoch. */
const OWN = { 'loop.validate_every': '1' };
const GROUPS = { encoder: 'Encoder', prototypes: 'Prototypes', cam: 'Maps', losses: 'Losses', optimizer: 'Optimiser', augment: 'Augmentation', loop: 'Loop' };
let serial = 0;

export class TrainForm {
  constructor(onChange) {
    Object.assign(this, { onChange, inputs: new Map(), values: {}, locked: {} });
    this.preset = h('select', { onchange: () => this.choosePreset(this.preset.value) });
    this.purpose = h('p', { class: 'lpd-hint' });
    this.start = h('select', { onchange: () => this.chooseStart() });
    this.startHint = h('p', { class: 'lpd-hint' });
    this.tower = h('select', { 'aria-label': 'Weights of the tower', onchange: onChange });
    this.few = h('div', { class: 'lpd-fields' });
    this.all = h('div', { class: 'lpd-all-fields' });
    this.element = h(
      'section',
      { class: 'lpd-sheet' },
      h('h2', {}, 'Settings'),
      h('div', { class: 'lpd-fields lpd-wide' }, labelled('Preset', this.preset, this.purpose), labelled('Encoder starts from', this.start, this.startHint)),
      this.few,
      h('details', { class: 'lpd-all' }, h('summary', {}, 'All settings'), this.all),
    );
  }

  fill({ fields, presets, starts }) {
    Object.assign(this, { fields, presets, starts });
    const kept = [this.preset, this.start, this.tower].map((select) => [select, select.value]);
    this.preset.replaceChildren(...presets.map(({ name }) => h('option', { value: name }, name)));
    const groups = { file: 'Weights files', model: 'Encoders of models here, to train on', none: 'From nothing' };
    this.start.replaceChildren(...Object.entries(groups).map(([kind, label]) => h('optgroup', { label }, starts.filter((start) => start.kind === kind).map((start) => h('option', { value: start.id }, start.label)))).filter((group) => group.children.length));
    this.tower.replaceChildren(h('option', { value: '' }, 'none (a timm tower needs a file)'), ...starts.filter((start) => start.kind === 'file').map((start) => h('option', { value: start.id }, start.label)));
    if (this.inputs.size) return this.keep(kept);
    this.few.append(...Object.entries(FEW).map(([path, label]) => this.field(this.of(path), label)));
    const rest = fields.filter(({ path }) => !(path in FEW));
    for (const [group, title] of Object.entries(GROUPS)) {
      const own = rest.filter(({ path }) => path.startsWith(`${group}.`));
      if (own.length) this.all.append(h('h3', {}, title), h('div', { class: 'lpd-fields' }, own.map((field) => this.field(field, field.path.slice(group.length + 1)))));
    }
    this.all.append(h('div', { class: 'lpd-fields' }, labelled('weights of a timm tower', this.tower)));
    this.choosePreset('cpu');
  }

  /** What was chosen stays chosen where it is still offered. */
  keep(chosen) {
    for (const [select, value] of chosen) if ([...select.options].some((option) => option.value === value)) select.value = value;
    if (chosen.some(([select, value]) => select.value !== value)) this.chooseStart();
  }

  of(path) {
    return this.fields.find((field) => field.path === path);
  }

  field({ path, kind, choices, help }, label) {
    const id = `lpd-set-${(serial += 1)}`;
    const properties = { id, 'data-path': path, 'aria-describedby': `${id}-says`, title: help };
    const set = () => this.set(path, input.value);
    const input = choices.length ? h('select', { ...properties, onchange: set }, choices.map((choice) => h('option', {}, choice))) : h('input', { ...properties, inputMode: kind === 'number' ? 'decimal' : 'text', autocomplete: 'off', spellcheck: false, maxLength: 900, oninput: set });
    const says = h('span', { id: `${id}-says`, class: 'lpd-field-says', role: 'alert' });
    this.inputs.set(path, { input, says });
    return h('div', { class: 'lpd-set' }, h('label', { htmlFor: id, title: `${path}: ${help}` }, label), input, says);
  }

  set(path, text) {
    this.values[path] = text;
    this.mark(path);
    this.onChange();
  }

  /** A setting that differs from the preset stands out. */
  mark(path) {
    this.inputs.get(path)?.input.classList.toggle('lpd-changed', this.values[path] !== this.base[path]);
  }

  choosePreset(name, settings = OWN) {
    const preset = this.presets.find((one) => one.name === name);
    this.preset.value = name;
    this.base = preset.values;
    this.purpose.textContent = `${preset.purpose[0].toUpperCase()}${preset.purpose.slice(1)}.`;
    this.values = { ...preset.values, ...settings };
    if (settings === OWN) this.start.value = this.likely(preset.values['encoder.name']);
    this.chooseStart();
  }

  /** Where an encoder of that name could start from here: a file, else a model; untrained only where there is neither. */
  likely(encoder) {
    const file = this.starts.find((start) => start.kind === 'file' && start.label.includes(encoder));
    const model = this.starts.find((start) => start.kind === 'model' && start.settings['encoder.name'] === encoder);
    return (file ?? model)?.id ?? 'none';
  }

  chooseStart() {
    const start = this.starts.find((one) => one.id === this.start.value) ?? this.starts.at(-1);
    this.locked = start.settings;
    Object.assign(this.values, start.settings);
    const untrained = 'An untrained encoder needs very many tiles: good for trying the way, not for real tissue.';
    this.startHint.textContent = { none: untrained, model: 'Fine-tuning: its encoder, with new prototypes for your classes; encoder settings follow it.', file: '' }[start.kind];
    this.show();
    this.onChange();
  }

  show() {
    for (const [path, { input }] of this.inputs) {
      input.value = this.values[path] ?? '';
      input.disabled = path in this.locked;
      this.mark(path);
    }
  }

  /** Fill in settings of an earlier training or a file. */
  take({ preset, settings, start, tower }) {
    this.start.value = start;
    this.tower.value = tower;
    this.choosePreset(preset, settings);
  }

  /** What of a wish is said here. */
  get wish() {
    const settings = Object.fromEntries(Object.entries(this.values).filter(([path, text]) => this.base[path] !== text && !(path in this.locked)));
    return { preset: this.preset.value, start: this.start.value, tower: this.tower.value, settings };
  }

  /** Show one sentence beside each field that is refused; answers those that are about no field. */
  refuse(problems) {
    for (const [path, { input, says }] of this.inputs) {
      const text = problems[path] ?? '';
      if (says.textContent !== text) says.textContent = text;
      input.setAttribute('aria-invalid', String(Boolean(text)));
    }
    return Object.entries(problems).filter(([path]) => !this.inputs.has(path));
  }
}

function labelled(text, input, hint = null) {
  input.id ||= `lpd-set-${(serial += 1)}`;
  return h('div', { class: 'lpd-set' }, h('label', { htmlFor: input.id }, text), input, hint);
}
