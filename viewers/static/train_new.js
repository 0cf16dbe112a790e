// A new training: data, settings, and the summary with the command, checked while one types.

import { h, saveFile } from './dom.js';
import { trainApi } from './train_api.js';
import { TrainData } from './train_data.js';
import { TrainForm } from './train_form.js';
import { TrainPlan } from './train_plan.js';

const TYPING_MS = 250;

export class TrainNew {
  constructor(acts, { onStarted }) {
    Object.assign(this, { acts, onStarted, round: 0, names: new Set() });
    this.form = new TrainForm(() => this.changed());
    this.data = new TrainData(acts, () => this.changed());
    this.plan = new TrainPlan({
      onChange: () => this.changed(),
      onStart: () => acts.attempt(() => this.start()),
      wish: () => this.wish,
      onLoad: (file) => acts.attempt(() => this.load(file)),
      onSave: () => saveFile(new Blob([this.yaml], { type: 'application/yaml' }), `${this.plan.name || 'settings'}.yaml`),
    });
    this.element = h('div', { class: 'lpd-train-new', hidden: true }, h('div', { class: 'lpd-train-main' }, this.data.element, this.form.element), this.plan.element);
  }

  async begin() {
    const setup = await trainApi.setup();
    this.form.fill(setup);
    this.presets = Object.fromEntries(setup.presets.map(({ name, values }) => [name, values]));
    this.tensorboard = setup.tensorboard;
    await this.data.load();
  }

  /** Take up the data sets, weights and models that have come since. */
  async refresh() {
    this.form.fill(await trainApi.setup());
    await this.data.load();
  }

  /** The trainings that there are, whose names are taken. */
  known(trainings) {
    this.names = new Set(trainings.map((training) => training.name));
    if (this.suggested !== undefined && this.plan.name === this.suggested && this.names.has(this.suggested)) this.suggest();
  }

  suggest() {
    const set = (this.data.chosen?.name.split('/').at(-1) ?? 'training').replace(/[^A-Za-z0-9._-]+/g, '-');
    const stem = `${set}-${this.form.preset.value}`.replace(/^[^A-Za-z0-9]+/, '').slice(0, 60);
    let number = 1;
    while (this.names.has(`${stem}-${number}`)) number += 1;
    this.suggested = `${stem}-${number}`;
    this.plan.name = this.suggested;
  }

  get wish() {
    return { data: this.data.id ?? '', ...this.form.wish, ...this.plan.wish };
  }

  changed() {
    if (!this.form.fields) return;
    if (!this.plan.name || this.plan.name === this.suggested) this.suggest();
    this.plan.waiting();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), TYPING_MS);
  }

  async check() {
    const round = (this.round += 1);
    const trouble = this.data.id ? this.plan.trouble : 'Choose a data set first.';
    if (trouble) return this.plan.tell({ problems: { '': trouble }, names: [], commands: [] }, this.form.refuse({ '': trouble }));
    let told;
    try {
      told = await trainApi.check(this.wish);
    } catch (error) {
      told = { problems: { '': error.message }, names: [], commands: [], yaml: '' };
    }
    if (round !== this.round) return;
    this.yaml = told.yaml;
    this.plan.tell(told, this.form.refuse(told.problems));
  }

  async start() {
    const { trainings } = await trainApi.start(this.wish);
    this.plan.started();
    this.suggested = undefined;
    this.plan.name = '';
    await this.onStarted(trainings);
    this.suggest();
  }

  async load(file) {
    this.take(await trainApi.readSettings(await file.text()));
  }

  /** Fill in what an earlier training or a file says. */
  take(saved, source = null) {
    this.form.take(saved);
    if (source && this.data.usable(source.data_id)) this.data.choose(source.data_id);
    for (const note of saved.notes) this.acts.say(note);
    this.suggested = this.plan.name;
    this.changed();
  }

  destroy() {
    clearTimeout(this.timer);
    this.plan.estimate.forget();
    this.data.destroy();
  }
}
