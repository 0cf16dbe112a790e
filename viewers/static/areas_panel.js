// Areas by class of the slide and of the selected region: a chart, a table for those who read or hear it, the ratio of
// tumour to stroma, and the report.

import { api } from './api.js';
import { areaCell, h, hex } from './dom.js';

const WAIT_MS = 250; // while corners are dragged nothing is asked for
const FINE_BELOW_MM2 = 1; // a biopsy needs a third decimal, a resection does not
const [WIDTH, BAR] = [256, 16];
const WRITTEN_FROM = 14; // percent; less is too narrow for a figure
const WHOSE = {
  'with corrections': ['With people’s corrections, as the mask is shown.', 'Show the model alone', 'Show mask and areas as the model made them'],
  'model alone': ['The model’s own, without people’s corrections, as the mask is shown.', 'Show corrections', 'Show mask and areas with the corrections in them'],
};
const REPORT = 'Make a report: one HTML file with pictures, areas of the slide and of every region that has a name, model and settings, to read, print or save as PDF';

export class AreasPanel {
  /** `colours` tells the classes' colours as they are shown; `attempt` does what may fail; `onSwitch` shows the mask
   *  with corrections, or without; `onNews` is called when others have corrected more than is shown. */
  constructor(shapes, { colours, attempt, saveFile, onSwitch, onNews }) {
    Object.assign(this, { shapes, colours, attempt, saveFile, onNews });
    this.region = null; // {key, name, answer} of the selected region
    this.chart = h('div', { class: 'lpd-area-chart' });
    this.table = h('table', { class: 'lpd-area-table' });
    this.said = h('p', { class: 'lpd-hint', 'aria-live': 'polite' });
    this.switch = h('button', { type: 'button', class: 'lpd-link', onclick: onSwitch });
    this.whose = h('p', { class: 'lpd-hint lpd-whose' }, h('span', { role: 'status' }), this.switch);
    this.ratio = h('p', { class: 'lpd-ratio' });
    this.button = h('button', { type: 'button', class: 'lpd-secondary', title: REPORT, onclick: () => this.report() }, 'Report');
    this.element = h('section', { class: 'lpd-areas', hidden: true }, h('h3', {}, 'Areas'), this.whose, this.chart, this.table, this.ratio, this.said, this.button);
  }

  render({ job, slide, figures }) {
    this.job = job;
    this.slide = slide;
    this.figures = figures;
    this.whole = figures.areas && figures;
    this.element.hidden = !job?.has_mask;
    if (this.element.hidden) return;
    this.button.hidden = !job.ended;
    this.renderWhose(figures.whose);
    this.follow();
    this.show();
  }

  renderWhose(whose) {
    const [text, act, title] = WHOSE[whose] ?? ['', '', ''];
    this.whose.hidden = !whose;
    this.whose.firstChild.textContent = text;
    this.switch.textContent = act;
    this.switch.title = title;
  }

  /** Ask for the areas of the region that is selected now, once. */
  follow() {
    const feature = this.shapes.get(this.shapes.selected);
    const polygons = polygonsOf(feature);
    const key = polygons && this.job?.has_mask ? JSON.stringify([this.job.id, this.job.ended, feature.id, polygons, this.figures.revision]) : null;
    if (key !== null) this.name = feature.properties?.name || 'Region';
    if (key === this.wanted) return;
    this.wanted = key;
    if (key === null || this.region?.id !== feature.id) this.region = null;
    clearTimeout(this.timer);
    if (key !== null) this.timer = setTimeout(() => this.ask(key, this.job.id, feature.id, polygons, this.figures.revision), WAIT_MS);
  }

  async ask(key, job, id, polygons, revision) {
    await this.attempt(async () => {
      const answer = await api.regionAreas(job, polygons, revision !== undefined).catch((error) => {
        if (this.wanted === key) this.region = { id, key, failed: true };
        this.show();
        throw error;
      });
      if (this.wanted !== key) return; // something else was selected meanwhile
      this.region = { id, key, ...answer };
      this.show();
      if (revision < answer.revision) this.onNews(); // and then asks once more
    });
  }

  /** A shape was selected, named or changed. */
  changed() {
    if (!this.job?.has_mask) return;
    this.follow();
    this.show();
  }

  show() {
    const { whole, region, job } = this;
    const all = job.region_l0 || job.polygons ? 'Segmented' : 'Slide';
    const places = [whole && [all, whole], region?.areas && [this.name, region]].filter(Boolean);
    const shows = JSON.stringify([places, this.colours(), this.wanted]);
    if (this.shows === shows) return;
    this.shows = shows;
    const filled = places.filter(([, { areas }]) => areas.at(-1).area_mm2 > 0);
    this.chart.replaceChildren(...(filled.length ? [this.draw(filled)] : []));
    this.fill(places);
    const ratios = new Map(places.map(([name, found]) => [found.ratio, name])); // why there is none is said once
    const told = [...ratios].map(([ratio, name]) => h('span', {}, ratios.size > 1 && h('i', {}, `${name}: `), ratio));
    this.ratio.replaceChildren(...(told.length ? [h('b', {}, 'Tumour/stroma ratio'), ...told] : []));
    this.said.textContent = this.hint();
  }

  hint() {
    const { region, wanted, job } = this;
    if (wanted && region?.key !== wanted) return 'Counting the selected region …';
    if (region?.failed) return 'The selected region could not be counted: change or select it again.';
    if (region && !region.area_mm2) return 'The region lies outside the slide, or between its pixels.';
    if (region && region.computed_percent < 99.95) return `${job.ended ? '' : 'So far: '}${region.computed_percent.toFixed(1)} % of the region was segmented; the rest counts for nothing.`;
    if (!wanted) return `Select a drawn region for its areas.${job.ended ? '' : ' Those of the slide come when the work is done.'}`;
    return '';
  }

  draw(places) {
    const rows = places.map(([, { areas }], i) => this.bar(areas.slice(0, -1), i * (BAR + 19) + 15));
    const names = places.map(([name], i) => svg('text', { x: 0, y: i * (BAR + 19) + 11 }, name.length > 40 ? `${name.slice(0, 39)}…` : name));
    return svg('svg', { viewBox: `0 0 ${WIDTH} ${places.length * (BAR + 19)}`, role: 'img', 'aria-label': 'Share of each class in the tissue; the table below says the same' }, ...names, ...rows.flat());
  }

  bar(areas, y) {
    const colours = this.colours();
    let x = 0;
    return areas.flatMap(({ name, percent }, i) => {
      const width = (WIDTH * percent) / 100;
      const [left, colour] = [x, colours[i] ?? [128, 128, 128]];
      x += width;
      if (!width) return [];
      const field = svg('rect', { x: left, y, width, height: BAR, fill: hex(colour) }, svg('title', {}, `${name} ${percent.toFixed(1)} %`));
      if (percent < WRITTEN_FROM) return [field];
      return [field, svg('text', { x: left + width / 2, y: y + 12, 'text-anchor': 'middle', fill: isDark(colour) ? '#fff' : '#000' }, `${percent.toFixed(0)} %`)];
    });
  }

  /** The slide's own figures are in the legend too: its table is for screen readers until there is something to compare. */
  fill(places) {
    this.table.hidden = !places.length;
    this.table.classList.toggle('lpd-unseen', places.length === 1 && places[0][1] === this.whole);
    if (!places.length) return;
    const th = (scope, text, span) => h('th', { scope, colSpan: span ?? 1, title: text }, text);
    const heads = places.map(([name]) => th('colgroup', name, 2));
    const units = places.flatMap(() => [th('col', 'mm²'), th('col', '%')]);
    const rows = places[0][1].areas.map(({ code, name }, i) => h('tr', { class: code === 'TISSUE' ? 'lpd-sum' : '' }, th('row', name), places.flatMap(([, { areas }]) => cells(areas, i))));
    this.table.replaceChildren(h('caption', { class: 'lpd-unseen' }, 'Area of each class in mm² and in percent of tissue'), h('thead', {}, h('tr', {}, h('td', {}), heads), h('tr', {}, h('td', {}), units)), h('tbody', {}, rows));
  }

  async report() {
    this.button.disabled = true;
    this.button.textContent = 'Making the report …';
    await this.attempt(async () => {
      if (this.shapes.unsaved) await this.shapes.save(); // the server reads the regions from what is saved
      const { blob, name } = await api.report(this.job.id);
      this.saveFile(blob, name);
    });
    this.button.disabled = false;
    this.button.textContent = 'Report';
  }

  destroy() {
    clearTimeout(this.timer);
  }
}

function cells(areas, index) {
  const decimals = areas.at(-1).area_mm2 < FINE_BELOW_MM2 ? 3 : 2;
  const { area_mm2: area, percent } = areas[index];
  return [h('td', {}, areaCell(area, decimals)), h('td', {}, areas.at(-1).area_mm2 ? percent.toFixed(1) : '–')];
}

function polygonsOf(feature) {
  const { type, coordinates } = feature?.geometry ?? {};
  const polygons = { Polygon: [coordinates], MultiPolygon: coordinates }[type];
  return polygons?.map((rings) => rings.map((ring) => ring.map(([x, y]) => [x, y]))) ?? null;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Whether white is easier to read on a colour than black: by the relative luminance of WCAG 2. */
function isDark(colour) {
  const [red, green, blue] = colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.179;
}
