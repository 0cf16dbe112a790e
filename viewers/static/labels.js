// Labelling: people tick which classes a tile shows, for a data set to train on. What is ticked is kept on the server;
// edits go there one after another, and what others tick meanwhile is fetched.

import { api, memory } from './api.js';
import { LabelExport } from './label_export.js';
import { LabelForm } from './label_form.js';
import { LabelPanel } from './label_panel.js';
import { LabelTools } from './label_tools.js';
import { polygonsOf } from './shapes.js';
import { UnderWay } from './under_way.js';

const OTHERS_MS = 5000;
const AHEAD = 8; // proposals that are asked for at once
const FEW = 2; // left when more are asked for

export class Labels {
  constructor(view, layers, { onTrouble, onPointer, onTold, shapes }) {
    Object.assign(this, { view, layers, onTrouble, onPointer, onTold, shapes });
    this.active = false;
    this.sets = [];
    this.waiting = Promise.resolve();
    this.underWay = new UnderWay();
    this.busy = 0;
    this.unsaid = []; // what was said of tiles and has not been answered
    this.forget();
    this.tools = new LabelTools(view, this);
    this.form = new LabelForm(this);
    this.export = new LabelExport(this);
    this.panel = new LabelPanel(this);
  }

  get element() {
    return this.panel.element;
  }

  /** What is known of the label set on this slide; nothing yet. */
  forget() {
    this.status = null;
    // An edit that has still to be sent keeps this one, whatever is shown by then. `failed`: how many edits did; `lost`:
    // one did, and what is saved could not be fetched since.
    this.seen = { revision: 0, failed: 0, lost: false };
    this.tiles = new Map(); // "column,row" -> numbers of classes
    this.selected = []; // [column, row]
    this.ahead = []; // proposals
    this.left = []; // tiles that were proposed and left without a label
    this.proposal = null; // the one that is looked at
    this.asked = null;
    this.exhausted = false;
  }

  /** Follow the page: another slide, result, or resolution. */
  render({ slide, job, models, panel }) {
    const before = this.slide;
    Object.assign(this, { slide, models, model: panel.model, job: job?.has_mask && job.slide_id === slide?.id ? job : null });
    if (before && (before.id !== slide?.id || before.mpp !== slide?.mpp)) {
      this.forget();
      if (!slide?.mpp) this.leave();
      else if (this.active && this.id) {
        this.takeKeys();
        this.attempt(() => this.refresh()).then(() => this.warm());
      }
    }
    this.panel.render();
  }

  get set() {
    return this.sets.find((set) => set.id === this.id && !set.error) ?? null;
  }

  get grid() {
    return this.status?.slide ?? null;
  }

  get classes() {
    return this.set?.classes ?? [];
  }

  async enter() {
    if (this.active || !this.slide?.mpp) return;
    this.active = true;
    this.onPointer(true);
    this.hadMask = this.layers.on.mask;
    if (this.hadMask) this.layers.toggle('mask', false); // what the model says shall not decide; m shows it
    this.panel.render();
    await this.attempt(async () => {
      this.sets = (await api.labelSets()).sets;
      this.id = [this.id, memory.get('labels', ''), this.sets[0]?.id].find((id) => this.sets.some((set) => set.id === id && !set.error)) ?? null;
      if (!this.active) return;
      if (this.id) await this.refresh();
      else this.form.open();
      this.warm();
      this.follow();
    });
    this.changed();
    this.panel.reveal();
    this.takeKeys();
  }

  /** Keys mean the tiles, no longer the list in which the slide was chosen or the button that began this. */
  takeKeys() {
    if (this.active && !this.form.isOpen) this.view.host.focus({ preventScroll: true });
  }

  leave() {
    if (!this.active) return;
    this.active = false;
    clearTimeout(this.timer);
    this.tools.end();
    this.select([]);
    this.onPointer(false);
    if (this.hadMask) this.layers.toggle('mask', true);
    this.panel.render();
  }

  follow() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      if (!document.hidden && this.id && !this.busy) await this.refresh().catch(() => undefined);
      if (this.active) this.follow();
    }, OTHERS_MS);
  }

  async choose(id) {
    this.forget();
    this.id = id;
    memory.set('labels', id);
    this.export.close();
    await this.attempt(() => this.refresh());
    this.warm();
  }

  /** Have the server look at the slide, so that the first proposal need not wait for it. */
  warm() {
    const { id, slide, job } = this;
    if (this.status) api.labelAct(id, 'proposals', { slide: slide.id, job: job?.ended ? job.id : null, count: 1 }).catch(() => undefined);
  }

  async create(wish) {
    const made = await api.newLabelSet(wish);
    this.sets = [made, ...this.sets];
    await this.choose(made.id);
  }

  /** Ask what is new. */
  async refresh() {
    const { id, slide } = this;
    const since = this.status?.revision ?? 0;
    this.take(id, slide, await api.labels(id, slide.id, since), since);
  }

  /** Show what has changed since some revision; of what was not known then, nothing would be told. */
  take(id, slide, status, since) {
    const known = this.status?.revision ?? 0;
    if (!this.shows(id, slide) || since > known || status.revision < known) return;
    for (const [column, row, classes] of status.slide.tiles) {
      if (classes) this.tiles.set(`${column},${row}`, classes);
      else this.tiles.delete(`${column},${row}`);
    }
    for (const { seen, cells, kind, numbers } of this.unsaid) if (seen === this.seen) for (const cell of cells) this.say(cell, kind, numbers);
    const set = this.sets.find((one) => one.id === id);
    if (set) Object.assign(set, { tiles: status.tiles, slides: status.slides });
    this.status = status;
    Object.assign(this.seen, { revision: status.revision, lost: false });
    this.changed();
  }

  changed() {
    this.tools.draw?.();
    this.panel.render();
  }

  classesOf([column, row]) {
    return this.tiles.get(`${column},${row}`) ?? null;
  }

  select(cells, proposal = null) {
    const before = this.proposal;
    if (before && !this.classesOf(before.cell)) this.left.push(before.cell);
    this.selected = cells;
    this.proposal = proposal;
    this.changed();
  }

  /** Tick a class of the selected tiles, or take it back if all of them have it. */
  toggle(number) {
    if (!this.selected.length || number >= this.classes.length) return;
    const all = this.selected.every((cell) => this.classesOf(cell)?.includes(number));
    this.edit(all ? 'remove' : 'add', [number]);
  }

  /** The selected tiles show none of the classes. */
  none() {
    if (this.selected.length) this.edit('set', []);
  }

  clear() {
    if (this.selected.some((cell) => this.classesOf(cell))) this.edit('clear', []);
  }

  /** Say something of the selected tiles: shown at once, sent when what was said before has been answered. */
  edit(kind, numbers) {
    const { id, slide, selected: cells, proposal, seen } = this;
    if (!this.status) return; // nobody knows what is saved: what is said now would show as if it were
    if (!proposal) this.ahead = []; // what was proposed did not know of this
    for (const cell of cells) this.say(cell, kind, numbers);
    const body = { slide: slide.id, fingerprint: slide.fingerprint, kind, cells, classes: numbers.map((number) => this.classes[number].code), proposed: proposal?.reason ?? '' };
    this.changed();
    const said = { seen, cells, kind, numbers };
    this.unsaid.push(said);
    // Whoever goes on to another slide while an answer is awaited has said it all the same.
    this.send((revision) => api.labelAct(id, 'edit', { ...body, revision }), id, slide, said);
  }

  say([column, row], kind, numbers) {
    const key = `${column},${row}`;
    const had = this.tiles.get(key) ?? [];
    const now = kind === 'add' ? [...new Set([...had, ...numbers])] : kind === 'remove' ? had.filter((number) => !numbers.includes(number)) : numbers;
    if (kind === 'clear' || (kind === 'remove' && !now.length)) this.tiles.delete(key);
    else this.tiles.set(key, now.sort((a, b) => a - b));
  }

  undo() {
    const { id, slide, seen } = this;
    const { failed } = seen;
    if (!this.status?.mine && !this.busy) return;
    // If what it takes back could not be said, there is nothing to take back: the edit before it stays.
    this.send((revision) => (seen.failed === failed ? api.labelAct(id, 'undo', { slide: slide.id, revision }) : null), id, slide).then((answer) => {
      if (answer?.elsewhere) this.onTold('Taken back on another slide.');
      else if (answer && this.active && this.shows(id, slide)) this.show(answer.undone);
    });
  }

  shows(id, slide) {
    return this.id === id && this.slide?.id === slide.id && this.slide.mpp === slide.mpp;
  }

  /** Ask for an edit when those before it have been answered; `said` is what it says of tiles. */
  send(ask, id, slide, said = null) {
    const { seen } = this;
    const turn = async () => {
      const since = seen.revision;
      let answer = null;
      try {
        if (!seen.lost) answer = await ask(since); // else one before it failed, and nothing of this one shows any more
      } finally {
        this.unsaid = this.unsaid.filter((one) => one !== said);
      }
      if (!answer) return null;
      seen.revision = answer.revision;
      this.take(id, slide, answer, since);
      return answer;
    };
    this.waiting = this.waiting.then(() => this.attempt(turn, seen));
    return this.underWay.hold(this.waiting);
  }

  /** Select the tissue tiles whose middles lie in some polygons. */
  async inside(polygons) {
    const { id, slide } = this;
    await this.attempt(async () => {
      const { cells, glass } = await api.labelAct(id, 'inside', { slide: slide.id, polygons });
      if (!this.shows(id, slide) || !this.active) return;
      if (!cells.length) this.onTold(glass ? 'No tissue there.' : 'No tile has its middle there.');
      this.select(cells);
    });
  }

  /** Select the tiles of the drawn region at a place; whether there is one. */
  insideDrawn(place) {
    const found = polygonsOf(this.shapes(), place);
    if (found) this.inside(found);
    return Boolean(found);
  }

  /** Go on to the next proposal. */
  async next() {
    if (!this.status) return;
    const { id, slide } = this;
    this.select([]);
    await this.attempt(async () => {
      while (this.ahead.length && this.classesOf(this.ahead[0].cell)) this.ahead.shift();
      if (!this.ahead.length) await this.look();
      if (!this.active || !this.shows(id, slide)) return; // who went on to another slide meanwhile asks there anew
      const found = this.ahead.shift();
      if (found) {
        this.select([found.cell], found);
        this.tools.goTo(found.cell);
      } else {
        this.exhausted = true;
        this.onTold('No tile is left to propose on this slide: open another one.');
      }
    });
    if (this.ahead.length <= FEW && !this.exhausted) this.look().catch(() => undefined);
  }

  /** Ask for more proposals, once at a time. */
  look() {
    const { id, slide } = this;
    const known = [...this.left, ...this.ahead.map((one) => one.cell), ...(this.proposal ? [this.proposal.cell] : [])].slice(-5000);
    const job = this.job?.ended ? this.job.id : null;
    this.asked ??= api
      .labelAct(id, 'proposals', { slide: slide.id, job, count: AHEAD, skipped: known })
      .then(({ proposals }) => {
        if (this.shows(id, slide)) this.ahead.push(...proposals);
      })
      .finally(() => {
        this.asked = null;
      });
    return this.asked;
  }

  /** Select a tile, and bring it into view. */
  show(cell) {
    this.select([cell]);
    this.tools.goTo(cell);
  }

  async attempt(act, seen = null) {
    this.busy += 1;
    try {
      return await act();
    } catch (error) {
      if (seen) seen.failed += 1;
      this.onTrouble(error);
      if (this.status) await this.again();
      return null;
    } finally {
      this.busy -= 1;
    }
  }

  /** Something could not be said: show what is saved. */
  async again() {
    const { seen } = this;
    this.status = null;
    this.tiles = new Map();
    await this.refresh().catch(() => {
      seen.lost = true;
      this.changed();
    });
  }

  /** What tests and curious people may look at. */
  get probe() {
    const { active, id, status, selected, proposal, tiles, busy } = this;
    return { active, id: id ?? null, revision: status?.revision ?? null, selected, proposal, tiles: Object.fromEntries(tiles), busy: busy > 0, counts: status?.counts ?? null, grid: this.grid && { step: this.grid.step, columns: this.grid.columns, rows: this.grid.rows }, export: this.export.state };
  }

  destroy() {
    clearTimeout(this.timer);
    this.underWay.destroy();
    this.export.destroy();
    this.tools.destroy();
  }
}
