// Several trainings beside one another: what was set differently, how they scored under each gate, their curves over each other.

import { duration, h } from './dom.js';
import { LineChart } from './line_chart.js';
import { trainApi } from './train_api.js';
import { points } from './train_curves.js';
import { inWords, percent } from './train_list.js';

const CURVES = [
  ['Total loss', (told) => points(told.losses, (entry) => entry.loss), {}],
  ['mIoU on valid, per cent (predicted gate, tissue alone)', (told) => points(told.valid, (entry) => entry.gates.predicted?.miou), { format: (value) => (100 * value).toFixed(0), ceiling: 1 }],
  ['Likeness of a class’s prototypes (1 alike, 0 disjoint)', (told) => points(told.valid, (entry) => entry.similarity), { ceiling: 1 }],
];

const GATES = { predicted: 'predicted gate', oracle: 'oracle gate', none: 'gate left open' };

export class TrainCompare {
  constructor(acts) {
    Object.assign(this, { acts, names: [] });
    this.table = h('div', { class: 'lpd-table-box', tabIndex: 0, role: 'group', 'aria-label': 'Trainings compared' });
    this.charts = CURVES.map(([title, , options]) => new LineChart(title, options));
    this.element = h('div', { class: 'lpd-train-compare', hidden: true }, h('section', { class: 'lpd-sheet' }, h('h2', {}, 'Trainings compared'), this.table), h('div', { class: 'lpd-charts' }, this.charts.map((chart) => chart.element)));
  }

  open(names) {
    Object.assign(this, { names, told: new Map(), settings: new Map(), shown: '' });
  }

  async look(trainings) {
    const compared = this.names.map((name) => trainings.find((training) => training.name === name)).filter(Boolean);
    const now = JSON.stringify(compared.map(({ name, state, progress, scores }) => [name, state, progress.done, scores]));
    if (now === this.shown) return;
    await Promise.all(compared.map((training) => this.ask(training)));
    this.shown = now;
    this.render(compared);
  }

  async ask({ name, has_settings: has }) {
    this.told.set(name, await trainApi.curves(name, '', 0));
    if (has && !this.settings.has(name)) this.settings.set(name, await trainApi.settings(name));
  }

  render(compared) {
    const of = ({ name }) => this.settings.get(name);
    const start = (training) => of(training)?.start ?? '';
    const values = compared.map((training) => ({ preset: of(training)?.preset ?? '', 'starts from': start(training).replace('model:', 'model '), ...this.full(of(training)) }));
    const paths = [...new Set(values.flatMap(Object.keys))].filter((path) => new Set(values.map((own) => own[path] ?? '')).size > 1);
    const row = (title, cells, kind = '') => h('tr', { class: kind }, h('th', { scope: 'row' }, title), cells.map((cell) => h('td', {}, cell)));
    const gates = [...new Set(compared.flatMap(({ scores }) => Object.keys(scores?.best ?? {})))];
    const best = (gate, which) => Math.max(...compared.map(({ scores }) => scores?.[which]?.[gate] ?? 0));
    const scored = (gate, which) => compared.map(({ scores }) => {
      const value = scores?.[which]?.[gate];
      return h('span', { class: value && value === best(gate, which) ? 'lpd-best' : '' }, percent(value));
    });
    const rows = [
      row('state', compared.map(inWords)),
      row('data', compared.map(({ data }) => data)),
      ...gates.flatMap((gate) => [row(`mIoU, ${GATES[gate] ?? gate}, at the end`, scored(gate, 'last')), row(`mIoU, ${GATES[gate] ?? gate}, best of all looks`, scored(gate, 'best'))]),
      row('likeness of prototypes', compared.map(({ scores }) => scores?.similarity?.toFixed(3) ?? '–')),
      row('time', compared.map(({ scores, started, updated }) => duration(scores?.seconds ?? updated - started))),
      row('checkpoints', compared.map(({ checkpoints }) => checkpoints.join(', ') || '–')),
      ...paths.map((path) => row(path, values.map((own) => own[path] ?? '–'), 'lpd-differs')),
    ];
    this.table.replaceChildren(h('table', {}, h('thead', {}, h('tr', {}, h('td'), compared.map(({ name }, i) => h('th', { scope: 'col', class: `lpd-tone-${1 + (i % 8)}` }, h('i'), name)))), h('tbody', {}, rows)));
    this.charts.forEach((chart, c) => chart.render(compared.map(({ name }, i) => ({ name, tone: 1 + (i % 8), strong: true, points: CURVES[c][1](this.told.get(name)) }))));
  }

  /** All settings of a training: those of its preset, and what differs from it. */
  full(saved) {
    if (!saved) return {};
    return { ...(this.presets?.[saved.preset] ?? {}), ...saved.settings };
  }

  destroy() {
    for (const chart of this.charts) chart.destroy();
  }
}
