// Lines over steps as SVG: at most 300 points a line, the numbers under the pointer or by arrow keys.

import { h, trim } from './dom.js';

const MOST = 300;
const PAD = { left: 46, right: 10, top: 10, bottom: 24 };
const HEIGHT = 190;
const NAMESPACE = 'http://www.w3.org/2000/svg';

/** Fewer points for more than the screen can show: the mean of neighbours, the last one as it is. */
export function thinned(points, most = MOST) {
  if (points.length <= most) return points;
  const size = Math.ceil((points.length - 1) / (most - 1));
  const kept = [];
  for (let i = 0; i < points.length - 1; i += size) {
    const part = points.slice(i, Math.min(i + size, points.length - 1));
    kept.push([0, 1].map((n) => part.reduce((sum, point) => sum + point[n], 0) / part.length));
  }
  return [...kept, points.at(-1)];
}

/** Round numbers from low to high, three to six of them. */
export function ticks(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => span / n <= 5);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(10)));
}

const svg = (tag, attributes = {}, text = '') => {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
};

const short = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : trim(value));

export class LineChart {
  /**
   * title: above it; format: a number for people; floor, ceiling: what the axis shows at least.
   */
  constructor(title, { format = short, floor = 0, ceiling = null } = {}) {
    Object.assign(this, { title, format, floor, ceiling, series: [], at: null });
    this.figure = svg('svg', { role: 'img', tabindex: 0, class: 'lpd-chart', height: HEIGHT });
    this.legend = h('ul', { class: 'lpd-chart-legend' });
    this.where = h('span', { class: 'lpd-chart-step' });
    this.element = h('figure', { class: 'lpd-chart-box' }, h('figcaption', {}, h('h3', {}, title), this.where), this.figure, this.legend);
    this.figure.addEventListener('pointermove', (event) => this.point(event.offsetX));
    this.figure.addEventListener('pointerleave', () => this.look(null));
    this.figure.addEventListener('keydown', (event) => this.step(event));
    this.figure.addEventListener('blur', () => this.look(null));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
  }

  /** series: [{ name, points: [[step, value], …], tone: 1 … 8, strong }], those without points left out; upTo: last step. */
  render(series, upTo = 1) {
    this.upTo = upTo;
    this.series = series.filter((line) => line.points.length).map((line) => ({ ...line, points: thinned(line.points) }));
    this.element.hidden = !this.series.length;
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width || !this.series.length) return;
    const all = this.series.flatMap((line) => line.points);
    const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
    const low = Math.min(this.floor ?? Infinity, ...ys);
    const high = Math.max(this.ceiling ?? -Infinity, ...ys);
    const right = Math.max(...xs, this.upTo ?? 1);
    this.x = (value) => PAD.left + (value / right) * (width - PAD.left - PAD.right);
    this.y = (value) => HEIGHT - PAD.bottom - ((value - low) / (high - low || 1)) * (HEIGHT - PAD.top - PAD.bottom);
    this.right = right;
    this.figure.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    this.figure.setAttribute('width', width);
    const grid = ticks(low, high).map((value) => [svg('line', { x1: PAD.left, x2: width - PAD.right, y1: this.y(value), y2: this.y(value), class: 'lpd-grid' }), svg('text', { x: PAD.left - 6, y: this.y(value) + 4, 'text-anchor': 'end' }, this.format(value))]);
    const steps = ticks(0, right).map((value) => svg('text', { x: this.x(value), y: HEIGHT - 7, 'text-anchor': 'middle' }, String(value)));
    const lines = this.series.map((line) => svg(line.points.length > 1 ? 'polyline' : 'circle', { class: `lpd-tone-${line.tone}${line.strong ? ' lpd-strong' : ''}`, ...this.shape(line) }));
    this.marks = svg('g', { class: 'lpd-marks' });
    this.figure.replaceChildren(...grid.flat(), ...steps, ...lines, this.marks);
    this.look(this.at);
    this.figure.setAttribute('aria-label', `${this.title} over steps. ${this.series.map((line) => `${line.name}: from ${this.format(line.points[0][1])} to ${this.format(line.points.at(-1)[1])} at step ${Math.round(line.points.at(-1)[0])}`).join('; ')}. Arrow keys read single steps.`);
  }

  shape({ points }) {
    if (points.length === 1) return { cx: this.x(points[0][0]), cy: this.y(points[0][1]), r: 3 };
    return { points: points.map(([x, y]) => `${this.x(x).toFixed(1)},${this.y(y).toFixed(1)}`).join(' ') };
  }

  point(px) {
    const longest = this.longest;
    this.look(longest.reduce((best, [x]) => (Math.abs(this.x(x) - px) < Math.abs(this.x(best) - px) ? x : best), longest[0][0]));
  }

  get longest() {
    return this.series.reduce((best, line) => (line.points.length > best.length ? line.points : best), []);
  }

  step(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const xs = this.longest.map(([x]) => x);
    const now = this.at === null ? xs.length : xs.findIndex((x) => x >= this.at);
    this.look(xs[Math.max(0, Math.min(xs.length - 1, now + direction))]);
  }

  /** Show the numbers at a step, or the last ones. */
  look(at) {
    this.at = at;
    const nearest = ({ points }) => (at === null ? points.at(-1) : points.reduce((best, point) => (Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best)));
    const values = this.series.map((line) => [line, nearest(line)]);
    this.legend.replaceChildren(...values.map(([line, [, y]]) => h('li', { class: `lpd-tone-${line.tone}` }, h('i'), h('span', {}, line.name), h('b', {}, this.format(y)))));
    this.where.textContent = at === null ? '' : `step ${Math.round(at)}`;
    if (!this.marks) return;
    const dots = at === null ? [] : values.map(([line, [x, y]]) => svg('circle', { cx: this.x(x), cy: this.y(y), r: 3.5, class: `lpd-tone-${line.tone}` }));
    const rule = at === null ? [] : [svg('line', { x1: this.x(at), x2: this.x(at), y1: PAD.top, y2: HEIGHT - PAD.bottom, class: 'lpd-rule' })];
    this.marks.replaceChildren(...rule, ...dots);
  }

  destroy() {
    this.observer.disconnect();
  }
}
