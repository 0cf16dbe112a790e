// Choosing what to learn from: the data sets, labels as bars, tiles by class, findings of the check.

import { count, h, hex } from './dom.js';
import { trainApi } from './train_api.js';

const CHECK_MS = 1500;
const MAKING_MS = 3000;

export class TrainData {
  constructor(acts, onChoose) {
    Object.assign(this, { acts, onChoose, sets: [], id: null, seed: 0 });
    this.select = h('select', { id: 'lpd-train-data', onchange: () => this.choose(this.select.value) });
    this.make = h('button', { type: 'button', class: 'lpd-secondary', title: 'Draws 128 tiles of tissue that never was, in a minute or two: to see the whole way work', onclick: () => acts.attempt(() => this.makePhantom()) }, 'Make a small synthetic set');
    this.again = h('button', { type: 'button', class: 'lpd-link', onclick: () => this.show(this.seed + 1) }, 'other tiles');
    this.facts = h('p', { class: 'lpd-train-about' });
    this.labels = h('div', { class: 'lpd-tally-rows' });
    this.findings = h('details', { class: 'lpd-findings' });
    this.none = h('p', { class: 'lpd-hint' });
    this.unscored = h('p', { class: 'lpd-hint', hidden: true }, 'No valid tiles with masks: it trains without scores and pictures. For these, review a result of one of the slides and make the set again, or score the model on another set.');
    this.element = h('section', { class: 'lpd-sheet' }, h('div', { class: 'lpd-sheet-head' }, h('h2', {}, 'Data'), this.again), h('div', { class: 'lpd-row' }, h('label', { htmlFor: 'lpd-train-data', class: 'lpd-unseen' }, 'Data set'), this.select, this.make), this.none, this.facts, this.unscored, this.labels, this.findings);
  }

  async load() {
    const { data, phantom } = await trainApi.dataSets();
    const before = JSON.stringify(this.chosen);
    this.sets = data;
    this.select.replaceChildren(...data.map((set) => h('option', { value: set.id, disabled: Boolean(set.error) }, `${set.name}${set.error ? ' (cannot be used)' : ` · ${count(set.splits.train ?? 0)} tiles`}`)));
    this.select.hidden = !data.length;
    this.make.hidden = phantom.made;
    this.make.disabled = phantom.making;
    this.make.textContent = phantom.making ? 'Drawing tiles …' : 'Make a small synthetic set';
    const broken = data.filter((set) => set.error).map((set) => set.error);
    this.none.textContent = data.length ? broken.join(' ') : 'No data set yet. Tick tiles on your slides (Slides, Label), put a folder of labelled tiles into data/ (train/name[1010].png and a dataset.yaml), or make a synthetic one to try with.';
    this.none.hidden = !this.none.textContent;
    if (phantom.error && phantom.error !== this.told) this.acts.say(phantom.error);
    this.told = phantom.error;
    if (phantom.making) this.wait();
    if (!this.usable(this.id)) this.choose(data.find((set) => !set.error && set.splits.train)?.id ?? null);
    else if (JSON.stringify(this.chosen) !== before) this.choose(this.id); // made anew under its name
    else this.select.value = this.id;
  }

  chooseByName(name) {
    const set = this.sets.find((one) => one.name === name);
    if (set && this.usable(set.id)) return this.choose(set.id);
    return this.acts.say(set?.error ?? `There is no data set ${name} any more.`);
  }

  usable(id) {
    return this.sets.some((set) => set.id === id && !set.error);
  }

  get chosen() {
    return this.sets.find((set) => set.id === this.id) ?? null;
  }

  wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.acts.attempt(() => this.load()), MAKING_MS);
  }

  async makePhantom() {
    this.make.disabled = true;
    await trainApi.makePhantom();
    await this.load();
  }

  choose(id) {
    this.id = id;
    if (id) this.select.value = id;
    this.again.hidden = !id;
    this.onChoose();
    for (const part of [this.labels, this.findings]) part.replaceChildren();
    this.facts.textContent = '';
    this.findings.hidden = true;
    this.unscored.hidden = !this.chosen || Boolean(this.chosen.splits.valid);
    if (id) return this.show(0);
    return null;
  }

  show(seed) {
    this.seed = seed;
    const id = this.id;
    return this.acts.attempt(async () => {
      const told = await trainApi.dataSet(id, seed);
      if (id !== this.id) return;
      const { train } = told.labels;
      this.facts.textContent = [told.title, told.mpp && `${told.mpp} µm/px`, train && `tiles of ${train.tile_px} px`, ...Object.entries(told.splits).map(([split, n]) => `${split} ${count(n)}`), told.licence && `licence: ${told.licence}`].filter(Boolean).join(' · ');
      if (told.error) this.acts.say(told.error);
      if (train) this.labels.replaceChildren(...told.classes.map((entry) => this.row(told, entry, train)), h('p', { class: 'lpd-hint' }, `${count(train.several)} tiles show several classes${train.none ? `, ${count(train.none)} none` : ''}.`));
      if (seed === 0) this.check(id);
    });
  }

  row(told, { code, name, color }, train) {
    const number = train.classes[code];
    const share = number / train.tiles;
    const tiles = told.samples[code].map((i) => h('img', { src: trainApi.tile(told.id, 'train', i, told.version), alt: `A training tile that shows ${name}`, loading: 'lazy', width: 52, height: 52 }));
    return h('div', { class: 'lpd-tally-row' }, h('span', { class: 'lpd-tally-name', title: name }, code), h('div', { class: 'lpd-tally-bar', role: 'img', 'aria-label': `${name}: ${number} of ${train.tiles} tiles` }, h('i', { style: `width:${(100 * share).toFixed(1)}%;background:${hex(color)}` })), h('span', { class: 'lpd-tally-count' }, `${count(number)} · ${(100 * share).toFixed(0)} %`), h('div', { class: 'lpd-tally-tiles' }, tiles));
  }

  /** The findings of the check, once it is done. */
  async check(id) {
    this.findings.hidden = false;
    this.findings.replaceChildren(h('summary', {}, 'Checking every tile …'));
    for (;;) {
      const told = await trainApi.findings(id).catch((error) => ({ state: 'failed', error: error.message }));
      if (id !== this.id) return;
      if (told.state !== 'running') return this.tell(told);
      await new Promise((resolve) => setTimeout(resolve, CHECK_MS));
      if (!this.element.isConnected) return;
    }
  }

  tell({ state, error, report }) {
    if (state === 'failed') return this.findings.replaceChildren(h('summary', { class: 'lpd-trouble' }, error));
    const { findings } = report;
    const errors = findings.filter((finding) => finding.severity === 'error').length;
    const summary = findings.length ? `The check found ${plural(errors, 'error')} and ${plural(findings.length - errors, 'warning')}` : 'The check found nothing wrong';
    const rows = findings.map((finding) => h('li', { 'data-severity': finding.severity }, h('b', {}, `${finding.severity}: ${finding.rule}${finding.split ? ` in ${finding.split}` : ''} (${count(finding.count)})`), h('span', {}, finding.says), h('small', {}, finding.items.map((item) => (item.detail ? `${item.name} (${item.detail})` : item.name)).join(', '))));
    this.findings.replaceChildren(h('summary', { class: errors ? 'lpd-trouble' : '' }, summary), h('ul', {}, rows));
  }

  destroy() {
    clearTimeout(this.timer);
  }
}

const plural = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;
