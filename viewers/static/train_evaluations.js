// How a training's checkpoint scores on any data set here: start, wait, table, confusion matrix, worst tiles.

import { h } from './dom.js';
import { trainApi } from './train_api.js';
import { percent } from './train_list.js';

const LOOK_MS = 2000;

export class TrainEvaluations {
  constructor(acts) {
    this.acts = acts;
    this.data = h('select', { 'aria-label': 'Data set to score on' });
    this.which = h('select', { 'aria-label': 'Checkpoint to score' });
    this.button = h('button', { type: 'button', class: 'lpd-secondary', onclick: () => acts.attempt(() => this.start()) }, 'Score');
    this.none = h('p', { class: 'lpd-hint', hidden: true }, 'No data set here has valid or test tiles with masks to score it on.');
    this.list = h('div', { class: 'lpd-evaluations' });
    this.element = h('section', { class: 'lpd-sheet', hidden: true }, h('h3', {}, 'Score it on any data set'), h('div', { class: 'lpd-row' }, this.data, this.which, this.button), this.none, this.list);
    this.forget();
  }

  forget() {
    Object.assign(this, { name: null, shown: '' });
    clearTimeout(this.timer);
    this.element.hidden = true;
    this.list.replaceChildren();
  }

  /** Data sets may have come since: ask for them at the next look. */
  refresh() {
    this.name = null;
  }

  /** Offer what there is once the training has a checkpoint. */
  render({ name, checkpoints, ended, data_id: own }) {
    if (!ended || !checkpoints.length) return this.forget();
    if (String(checkpoints) !== this.offered) this.which.replaceChildren(...checkpoints.map((value) => h('option', { value }, `${value} checkpoint`)));
    this.offered = String(checkpoints);
    if (this.name === name) return;
    this.name = name;
    this.element.hidden = false;
    this.acts.attempt(async () => {
      const { data } = await trainApi.dataSets();
      const options = data.flatMap((set) => ['valid', 'test'].filter((split) => set.splits[split] && !set.error).map((split) => h('option', { value: `${set.id} ${split}` }, `${set.name} · ${split}, ${set.splits[split]} tiles`)));
      this.data.replaceChildren(...options);
      const same = options.find((option) => option.value.startsWith(`${own} `));
      if (same) this.data.value = same.value;
      this.data.parentElement.hidden = !options.length;
      this.none.hidden = options.length > 0;
      await this.look();
    });
  }

  async start() {
    const [data, split] = this.data.value.split(' ');
    await trainApi.evaluate(this.name, { data, split, which: this.which.value });
    await this.look();
  }

  async look() {
    const name = this.name;
    const { evaluations } = await trainApi.evaluations(name);
    if (name !== this.name) return;
    const now = JSON.stringify(evaluations.map(({ key, state, when, outdated }) => [key, state, state === 'running' ? 0 : when, outdated]));
    if (now !== this.shown) this.list.replaceChildren(...evaluations.map((one, i) => this.entry(one, i === 0)));
    this.shown = now;
    clearTimeout(this.timer);
    if (evaluations.some(({ state }) => state === 'running')) this.timer = setTimeout(() => this.acts.attempt(() => this.look()), LOOK_MS);
  }

  entry(one, first) {
    const title = `${one.data} · ${one.split}, ${one.which} checkpoint`;
    if (one.state === 'running') return h('p', {}, h('span', {}, `${title}: being scored … `), h('button', { type: 'button', class: 'lpd-link', onclick: () => this.acts.attempt(() => this.stop(one.key)) }, 'stop'));
    if (one.state === 'failed') return h('p', { class: 'lpd-trouble' }, `${title}: ${one.error}`);
    const codes = Object.keys(one.gates.predicted.iou);
    const gates = table(['Gate', 'mIoU', 'mDice', ...codes.map((code) => `IoU ${code}`)], Object.entries(one.gates).map(([gate, scores]) => [gate, ...[scores.miou, scores.mdice, ...codes.map((code) => scores.iou[code])].map(percent)]));
    const picture = one.picture && h('figure', {}, h('figcaption', { class: 'lpd-hint' }, 'The tiles of lowest mean IoU: picture, truth, prediction, errors.'), h('img', { src: trainApi.worst(this.name, one.key, one.when), alt: 'The tiles that it gets most wrong, with truth, prediction and errors', loading: 'lazy' }));
    const since = one.outdated ? ' The training has gone on since: score it again.' : '';
    return h('details', { open: first }, h('summary', {}, `${title}: mIoU ${percent(one.gates.predicted.miou)} by the predicted gate, ${percent(one.gates.oracle?.miou)} by the oracle’s (${one.tiles} tiles).${since}`), gates, h('p', { class: 'lpd-hint' }, 'Which class pixels were given to, in per cent of those that truly are of the row’s class (predicted gate, tissue alone):'), confusion(codes, one.confusion), picture);
  }

  async stop(key) {
    await trainApi.stopEvaluation(this.name, key);
    await this.look();
  }
}

const table = (head, rows) => h('table', {}, h('thead', {}, h('tr', {}, head.map((text) => h('th', { scope: 'col' }, text)))), h('tbody', {}, rows.map(([first, ...cells]) => h('tr', {}, h('th', { scope: 'row' }, first), cells.map((cell) => h('td', {}, cell))))));

function confusion(codes, counts) {
  const rows = codes.map((code, i) => {
    const sum = counts[i].reduce((total, value) => total + value, 0);
    return h('tr', {}, h('th', { scope: 'row' }, code), codes.map((_, j) => h('td', { class: 'lpd-share', style: `--share:${sum ? (counts[i][j] / sum).toFixed(3) : 0}` }, sum ? percent(counts[i][j] / sum) : '–')));
  });
  return h('table', { class: 'lpd-confusion' }, h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, 'true, given to'), codes.map((code) => h('th', { scope: 'col' }, code)))), h('tbody', {}, rows));
}
