// The curves of one training: asks for what is new, keeps all, draws losses, rate, scores and likeness.

import { LineChart } from './line_chart.js';
import { trainApi } from './train_api.js';

const LOSSES = [['loss', 'total', 1, true], ['classification', 'L_cls', 2], ['pixels', 'L_pix', 3], ['similarity', 'L_sim', 4], ['diversity', 'L_div', 5]];
/** These are 0 until they join in: nothing to draw. */
const JOINING = new Set(['similarity', 'diversity']);
const asPercent = (value) => (100 * value).toFixed(0);

/** The points of one number of a list of entries. */
export const points = (entries, value) => entries.map((entry) => [entry.step, value(entry)]).filter(([, y]) => y !== undefined && y !== null);

export class TrainCurves {
  constructor() {
    this.charts = {
      losses: new LineChart('Losses'),
      scores: new LineChart('Scores on valid, per cent (predicted gate, tissue alone)', { format: asPercent, ceiling: 1 }),
      likeness: new LineChart('Likeness of a class’s prototypes (1 alike, 0 disjoint)', { ceiling: 1 }),
      rate: new LineChart('Learning rate, share of its height', { ceiling: 1 }),
      busy: new LineChart('Device at work, share of the time (else it waits for tiles)', { ceiling: 1 }),
      memory: new LineChart('Most memory needed so far, GiB', { format: (value) => (value / 1024).toFixed(1) }),
    };
    this.elements = Object.values(this.charts).map((chart) => chart.element);
    this.forget();
  }

  forget() {
    Object.assign(this, { name: null, run: '', since: 0, losses: [], valid: [], total: 1 });
    this.draw();
  }

  /** Ask what is new of a training; answers how it is now. */
  async look(name) {
    const { run, since } = Object.assign(this, { name });
    const told = await trainApi.curves(name, run, since);
    // Another one is looked at by now, or another look has brought this already.
    if (this.name !== name || this.run !== run || this.since !== since) return told.training;
    if (told.anew) Object.assign(this, { losses: [], valid: [] });
    Object.assign(this, { run: told.run, since: told.since });
    this.losses.push(...told.losses);
    this.valid.push(...told.valid);
    const { total } = told.training.progress;
    const longer = total && total !== this.total;
    if (longer) this.total = total;
    if (told.anew || longer || told.losses.length || told.valid.length) this.draw();
    return told.training;
  }

  draw() {
    const { losses, valid, charts, total } = this;
    const lines = LOSSES.map(([key, name, tone, strong]) => ({ name, tone, strong, points: points(losses, (entry) => (JOINING.has(key) && !entry[key] ? null : entry[key])) }));
    charts.losses.render(lines.filter((line) => line.points.some(([, y]) => y !== 0)), total); // what is switched off is no line
    charts.busy.render([{ name: 'at work', tone: 6, strong: true, points: points(losses, (entry) => entry.busy) }], total);
    charts.memory.render([{ name: 'memory', tone: 7, strong: true, points: points(losses, (entry) => entry.memory_mb) }], total);
    charts.rate.render([{ name: 'rate', tone: 1, strong: true, points: points(losses, (entry) => entry.rate) }], total);
    const codes = Object.keys(valid.at(-1)?.gates.predicted?.iou ?? {});
    const of = (read) => points(valid, (entry) => entry.gates.predicted && read(entry.gates.predicted));
    charts.scores.render([
      { name: 'mIoU', tone: 1, strong: true, points: of((scores) => scores.miou) },
      { name: 'mDice', tone: 2, points: of((scores) => scores.mdice) },
      ...codes.map((code, i) => ({ name: `IoU ${code}`, tone: 3 + (i % 6), points: of((scores) => scores.iou?.[code]) })),
    ], total);
    charts.likeness.render([{ name: 'likeness', tone: 5, strong: true, points: points(valid, (entry) => entry.similarity) }], total);
  }

  get counts() {
    return { losses: this.losses.length, valid: this.valid.length, last: this.losses.at(-1)?.step ?? 0 };
  }

  /** Seconds of work, those before an interruption included. */
  get seconds() {
    const logged = [...this.losses.slice(-1), ...this.valid.slice(-1)].map((entry) => entry.seconds ?? 0);
    return logged.length ? Math.max(...logged) : undefined;
  }

  /** The newest scores, for a table: rows of gate and numbers. */
  get newest() {
    const last = this.valid.at(-1);
    return last ? Object.entries(last.gates).map(([gate, scores]) => ({ gate, ...scores })) : [];
  }

  destroy() {
    for (const chart of Object.values(this.charts)) chart.destroy();
  }
}
