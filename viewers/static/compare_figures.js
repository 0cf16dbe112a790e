// Figures of merit of both sides, of one class or of all, each with its definition one click away.

import { api } from './api.js';
import { overChoice, PassNote } from './compare_over.js';
import { h } from './dom.js';

/** Name, and which way is better for what the paper is after: prototypes that differ and cover more. */
const FIGURES = {
  jeffreys_similarity: ['Jeffreys similarity', 'less'],
  map_cosine: ['Map cosine', 'less'],
  map_iou: ['Map IoU', 'less'],
  union_coverage: ['Union coverage', 'more'],
  effective_prototypes: ['Effective number', 'more'],
  prototype_cosine: ['Prototype cosine', 'less'],
  silhouette: ['Silhouette', 'more'],
  map_silhouette: ['Map silhouette', 'more'],
};

export class CompareFigures {
  constructor({ attempt, onFigure, answers, onOver, onStop }) {
    this.answers = answers;
    this.attempt = attempt;
    this.onFigure = onFigure;
    this.found = new Map(); // result, or model, and over what -> figures
    this.opened = new Set(); // definitions
    this.over = overChoice('Slides or data set that are measured', () => {
      onOver();
      this.render(this.state);
    }, true);
    this.body = h('div', { class: 'lpd-figures' });
    this.note = new PassNote(answers, () => onStop(this.over.value));
    this.element = h('details', { class: 'lpd-layers lpd-merit', open: false }, h('summary', {}, h('h3', {}, 'Figures of merit')), this.over.element, this.note.element, this.body);
    this.element.addEventListener('toggle', () => this.state && this.render(this.state));
  }

  render(state) {
    this.state = state;
    const ready = state.sides.filter((side) => side.about && side.job.ended);
    this.element.hidden = !ready.length;
    if (!this.element.open || !ready.length) return;
    for (const side of ready) if (!this.found.has(this.keyOf(side))) this.load(side);
    this.progress();
    const [left, right] = state.sides.map((side) => side.job && this.found.get(this.keyOf(side)));
    if (!left && !right) {
      this.body.replaceChildren(this.over.data ? '' : h('p', { class: 'lpd-hint' }, 'Measuring …'));
      return;
    }
    this.body.replaceChildren(this.measured(left, right), this.table(state, left, right), ...this.usage(state, left, right), h('p', { class: 'lpd-plots' }, this.plots(state), this.download(state, left, right)));
  }

  /** Say how far passes over a data set are. */
  progress() {
    if (this.state && this.element.open) this.note.show(this.over.data, this.state.sides.filter((side) => side.about && side.job.ended));
  }

  keyOf({ job, shown, about }) {
    return this.over.data ? `${shown} ${about?.digest} ${this.over.value}` : `${job.id} ${job.updated} ${this.over.value}`;
  }

  /** Measure anew: there may be more results. */
  forget() {
    this.found.clear();
  }

  /** Which slides the numbers are of, where that is not this one. */
  measured(left, right) {
    const { data } = this.over;
    if (data) return h('p', { class: 'lpd-hint' }, `Over ${data.name}, ${data.split}: ${(left ?? right).tiles} tiles, inside the true regions, maps of the deepest scale.`);
    const of = [left, right].map((found) => found && `${found.slides} ${found.slides === 1 ? 'slide' : 'slides'}`);
    const [one, other] = of;
    const text = one && other && one !== other ? `Left over ${one}, right over ${other}.` : `Over ${one ?? other}, all their tiles together.`;
    return h('p', { class: 'lpd-hint', hidden: this.over.value === 'slide' }, text);
  }

  load(side) {
    const [key, { data, value }] = [this.keyOf(side), this.over];
    this.found.set(key, null);
    this.attempt(async () => {
      try {
        this.found.set(key, data ? await this.ofData(data, side.made) : await api.prototypeFigures(side.job.id, value));
      } catch (error) {
        this.found.delete(key);
        if (error === null) return; // it was given up
        if (data) this.over.backToSlides();
        else this.element.open = false;
        throw error;
      }
      this.render(this.state);
    });
  }

  async ofData(data, model) {
    const { figures } = await this.answers.get(data, model);
    return { ...figures, checkpoint: model.name, slide: `${data.name} (${data.split})` };
  }

  table({ code, sides }, left, right) {
    const definitions = (left ?? right).definitions;
    const own = code === null ? sides.map((side) => h('th', {}, side.code)) : [h('th', { colSpan: 2 }, code)];
    const head = h('tr', {}, h('td'), ...own, h('th', { colSpan: 2 }, 'all'));
    const beside = h('tr', {}, h('td'), ...['left', 'right', 'left', 'right'].map((text) => h('th', { scope: 'col' }, text)));
    const rows = Object.entries(FIGURES).filter(([key]) => key in (left ?? right)).flatMap(([key, [name, better]]) => {
      const pending = [left, right].map((found, i) => !found && sides[i].about && sides[i].job.ended);
      const one = [left, right].map((found, i) => (pending[i] ? '…' : found?.classes[sides[i].code]?.[key] ?? null));
      const all = [left, right].map((found, i) => (pending[i] ? '…' : found?.[key] ?? null));
      const text = h('tr', { class: 'lpd-definition', hidden: !this.opened.has(key) }, h('td', { colSpan: 5 }, definitions[key]));
      const button = h('button', { type: 'button', class: 'lpd-link', title: definitions[key], 'aria-expanded': String(!text.hidden), onclick: () => this.toggle(key, button, text) }, name);
      return [h('tr', {}, h('th', { scope: 'row' }, button), ...cells(one, code === null ? null : better), ...cells(all, better)), text];
    });
    return h('table', {}, h('thead', {}, head, beside), h('tbody', {}, rows));
  }

  /** Open or close a definition; it stays so when numbers come. */
  toggle(key, button, text) {
    text.hidden = !text.hidden;
    button.setAttribute('aria-expanded', String(!text.hidden));
    if (text.hidden) this.opened.delete(key);
    else this.opened.add(key);
  }

  /** How the prototypes share the class's region, a bar each; those that say nothing or the same are named. */
  usage({ sides }, ...found) {
    return sides.flatMap((side, i) => {
      const own = found[i]?.classes[side.code];
      if (!own?.usage || !side.about) return [];
      const numbers = side.own;
      const bars = own.usage.map((share, k) => {
        const bar = h('i');
        bar.style.width = `${100 * share}%`;
        return h('div', { class: 'lpd-usage', title: 'Share of the class’s region where this prototype answers most' }, h('span', {}, side.nameOf(numbers[k])), h('div', {}, bar), h('span', {}, `${(100 * share).toFixed(0)} %`));
      });
      const dead = own.dead.map((k) => side.nameOf(numbers[k]));
      const twins = own.near_duplicates.map(([a, b, r]) => `${side.nameOf(numbers[a])} and ${side.nameOf(numbers[b])} (r ${r.toFixed(2)})`);
      const notes = [dead.length && `Dead: ${dead.join(', ')}.`, twins.length && `Near-duplicates: ${twins.join('; ')}.`].filter(Boolean);
      return [h('h4', {}, `Usage, ${side.name}`), ...bars, notes.length ? h('p', { class: 'lpd-notice' }, notes.join(' ')) : null].filter(Boolean);
    });
  }

  /** Figures for a paper. */
  plots({ sides, matching }) {
    const ready = sides.filter((side) => side.about && side.job.ended);
    const [ids, models] = [[...new Set(ready.map((side) => side.job.id))], sides.map((side) => (side.about ? side.made : { name: side.model, digest: '' }))];
    const link = (text, title, path) => h('button', { type: 'button', class: 'lpd-link', title, onclick: () => this.onFigure(text, path) }, text);
    const { data } = this.over;
    const measured = data && ready.filter((side) => this.found.get(this.keyOf(side))).map((side) => side.made);
    const drawn = (kind) => (data ? api.dataPlotPath(data, measured, kind) : api.plotPath(ids, kind, this.over.value));
    return [
      link('Usage and pairs', 'Shares of each prototype, and how alike every two are', drawn),
      matching && link('Counterparts', 'Every prototype of the left model against every one of the right', (kind) => api.pairsPath(ids, kind)),
      link('Prototypes in a plane', 'Where the prototypes of the models lie to one another (PCA), each with the place of this slide where it answers most; takes some seconds', (kind) => api.projectionPath(models, ids, kind)),
    ].filter(Boolean);
  }

  download({ sides }, ...found) {
    const lines = [['side', 'model', 'slide', 'class', ...Object.keys(FIGURES), 'usage', 'names']];
    found.forEach((figures, i) => {
      if (!figures) return;
      const { names } = sides[i].about ?? { names: {} };
      const named = (code) => sides[i].prototypesOf(code).map((index, k) => names[index] && `${k + 1} ${names[index]}`).filter(Boolean);
      for (const [code, own] of [...Object.entries(figures.classes), ['all', figures]]) lines.push([sides[i].name, figures.checkpoint, figures.slide, code, ...Object.keys(FIGURES).map((key) => own[key] ?? ''), (own.usage ?? []).map((share) => share.toFixed(4)).join(' '), named(code).join('; ')]);
    });
    const text = lines.map((line) => line.map(cell).join(',')).join('\n');
    return h('a', { class: 'lpd-link', download: 'prototype-figures.csv', href: `data:text/csv;charset=utf-8,${encodeURIComponent(`${text}\n`)}` }, 'Save as CSV');
  }
}

/** A cell of a CSV; a name is no formula in a spreadsheet. */
function cell(value) {
  const text = String(value);
  const plain = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

/** Two numbers, the better one in bold if they can be compared and differ in what is shown; none where nothing is known, dots where not yet. */
function cells(values, better) {
  const texts = values.map((value) => (typeof value === 'number' ? value.toFixed(value >= 10 ? 1 : 2) : value ?? '–'));
  const best = better === null || values.some((value) => typeof value !== 'number') || texts[0] === texts[1] ? null : better === 'less' ? Math.min(...values) : Math.max(...values);
  return texts.map((text, i) => h('td', {}, values[i] === best && best !== null ? h('b', {}, text) : text));
}
