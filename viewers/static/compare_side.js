// One side of the comparison: a model's result with the maps of its prototypes, the slide, one map over it.

import { api } from './api.js';
import { duration, h, moment } from './dom.js';
import { greyTile, GreyLayer } from './grey_layer.js';
import { place } from './job_list.js';
import { JobWatch } from './job_watch.js';
import { activation } from './prototype_colors.js';
import { SlideView } from './slide_view.js';

/** Nothing muted, nothing merged. */
export const NO_EDITS = { muted: [], merged: [] };
const minus = (text) => text.replace('-', '−');
const NAMES = { left: 'Left', right: 'Right' };

export class Side {
  constructor(name, acts) {
    Object.assign(this, { name, acts, job: null, about: null, index: null, code: null, shown: null, edits: NO_EDITS, history: [] });
    this.stage = h('section', { class: 'lpd-stage', 'data-side': name, 'aria-label': `${NAMES[name]} slide` });
    const answers = { onToggleMask: () => acts.toggleMask(), classAt: (x, y) => this.valueAt(x, y), onMove: () => undefined, onLost: () => acts.lost() };
    this.view = new SlideView(this.stage, answers, name === 'right'); // one map of where both are
    this.mask = new GreyLayer(this.view);
    this.heat = new GreyLayer(this.view);
    this.models = h('select', { 'aria-label': `${NAMES[name]}: model`, onchange: () => acts.chooseModel(this, this.models.value) });
    this.said = h('p', { class: 'lpd-side-said', role: 'status' });
    this.button = h('button', { type: 'button', class: 'lpd-primary', title: 'Segment this slide with this model once more and keep the map of every prototype; the page may be closed meanwhile', onclick: () => acts.compute(this) }, 'Compute maps');
    this.codes = h('select', { 'aria-label': `${NAMES[name]}: class`, title: 'Class of this side alone; the row of classes below sets both', onchange: () => acts.chooseCode(this, this.codes.value) });
    this.ownClass = h('label', { hidden: true }, h('span', {}, 'Class'), this.codes);
    this.element = h('div', { class: 'lpd-side', 'data-side': name }, h('label', {}, h('b', {}, NAMES[name]), this.models), this.ownClass, this.said, this.button);
    this.watch = new JobWatch({
      onGrow: (rects, revision, run) => this.grow(rects, revision, run),
      onState: (job) => this.onState(job),
      onLost: (lost, error) => this.say(!lost ? '' : error.status ? error.message : 'The app does not answer; trying again …'),
      onGone: () => this.show(this.slide, this.model, null),
    });
  }

  get model() {
    return this.models.value || null;
  }

  /** What its result is by: the name, and which file had it. */
  get made() {
    return { name: this.shown, digest: this.about.digest };
  }

  /** Models to choose from; the chosen one stays chosen, though its file be gone. */
  offer(models, chosen) {
    const gone = chosen && !models.some(({ name }) => name === chosen) ? [{ name: chosen, prototype_source: 'gone' }] : [];
    this.models.replaceChildren(...[...models, ...gone].map(({ name, prototype_source: source }) => h('option', { value: name, selected: name === chosen }, `${name} (${source})`)));
  }

  /** Show what a model has found on a slide; `job` is its result with maps, if there is one. */
  async show(slide, model, job) {
    this.watch.stop();
    Object.assign(this, { slide, shown: model, job: null, about: null, asking: null, progress: null, ranged: 1, edits: NO_EDITS, history: [] });
    this.models.value = model;
    for (const layer of [this.mask, this.heat]) layer.clear();
    this.button.hidden = Boolean(job) || !slide;
    this.say(job || !slide ? '' : 'The maps of its prototypes have not been computed on this slide.');
    if (job) {
      this.onState(job);
      this.watch.start(job.id);
    } else this.acts.changed(this);
  }

  async onState(job) {
    const ready = Boolean(job.prototypes);
    const first = ready && !this.about && this.asking !== job.id;
    const ended = job.ended && !this.job?.ended;
    this.job = job;
    if (job.ended) this.say(ready ? `${moment(job.created)}${job.state === 'done' ? '' : ' · not complete'}` : job.message || 'This ended without maps: compute them again.');
    else this.say(this.progressOf(job));
    this.offerMaps();
    if (first || (ended && ready)) await this.learn(job);
  }

  /** Maps can be computed where there are none, and where there are none by the file that has the model's name now. */
  offerMaps() {
    this.button.hidden = !this.job.ended || (Boolean(this.job.prototypes) && !this.about?.replaced);
  }

  /** Ask what maps there are. */
  async learn(job) {
    this.asking = job.id;
    try {
      const about = await api.prototypes(job.id);
      if (this.job?.id !== job.id) return;
      this.about = about;
      this.offerMaps();
      if (about.names_problem) this.acts.trouble(about.names_problem);
      this.acts.changed(this);
    } catch (error) {
      if (error.status === undefined) throw error;
      if (this.job?.id === job.id && job.ended) this.say(error.message); // else it is asked again soon
    } finally {
      if (this.asking === job.id) this.asking = null;
    }
  }

  /** Ask once more whether the model is still the one that the maps are by. */
  async lookAgain() {
    const { about, job } = this;
    if (!about || !job.ended) return;
    const { replaced } = await api.prototypes(job.id).catch(() => about); // it is gone: its tiles say so
    if (this.about !== about) return;
    about.replaced = replaced;
    this.offerMaps();
  }

  progressOf(job) {
    if (job.queue_position) return `Waiting, ${place(job)} …`;
    const { done, total, eta_s: eta } = job.progress;
    return total ? `Computing maps: ${Math.floor((100 * done) / total)} %${eta ? `, about ${duration(eta)} left` : ''} …` : job.message || 'Starting …';
  }

  say(text) {
    this.said.textContent = text;
  }

  grow(rects, revision, run) {
    this.progress = { rects: this.progress?.run === run ? [...this.progress.rects, ...rects] : [...rects], revision, run };
    for (const layer of [this.mask, this.heat]) if (layer.source) layer.grow(rects, revision, run);
    this.acts.grew(this, rects);
    if (this.about && !this.job.ended && revision >= 2 * this.ranged) this.learnRanges(revision);
  }

  /** The ranges of the maps so far: first there is little to tell them from, later they hardly change. */
  async learnRanges(revision) {
    const { about } = this;
    this.ranged = revision;
    const { ranges } = await api.prototypes(this.job.id).catch(() => about); // it is asked again at the end
    if (this.about !== about) return;
    about.ranges = ranges;
    this.acts.ranged();
  }

  /** Classes of the result, without background. */
  get classes() {
    return this.about?.classes ?? [];
  }

  /** Let the class be chosen among those that the model has; empty while it has not the one that both sides are at. */
  renderClass() {
    this.ownClass.hidden = !this.classes.length;
    this.codes.replaceChildren(...this.classes.map(({ code, name }) => h('option', { value: code, title: name }, `${code} · ${name}`)));
    this.codes.value = this.code;
  }

  /** Its prototypes of the class that it is at. */
  get own() {
    return this.prototypesOf(this.code);
  }

  /** Prototypes of a class as their numbers in the result. */
  prototypesOf(code) {
    const value = this.classes.findIndex((entry) => entry.code === code);
    const k = this.about?.per_class ?? 0;
    return value < 0 ? [] : Array.from({ length: k }, (_, i) => value * k + i);
  }

  /** What people call a prototype: its given name, else its class and number. */
  nameOf(index) {
    return this.about.names[index] || this.plainName(index);
  }

  plainName(index) {
    return `${this.classes[Math.floor(index / this.about.per_class)].code} ${(index % this.about.per_class) + 1}`;
  }

  /** Show one prototype's map, or none. */
  choose(index) {
    this.index = index;
    if (index === null || !this.about) this.heat.clear();
    else this.follow(this.heat, this.mapSource(index));
  }

  mapSource(index) {
    const { id, scale } = this.job;
    return { key: `${id} prototype-${index}`, scale: scale * this.about.stride, tile: (level, col, row, version) => greyTile(api.resultTile(id, `prototype-${index}`, level, col, row, version)) };
  }

  get edited() {
    return this.edits.muted.length + this.edits.merged.length > 0;
  }

  /** Let some prototypes not count, or count as one; what was before can be had back. */
  edit(edits) {
    this.history.push(this.edits);
    this.edits = edits;
  }

  undo() {
    if (this.history.length) this.edits = this.history.pop();
  }

  /** The mask, as it would be with the edits. */
  showMask(on) {
    this.mask.setVisible(on);
    if (!on || !this.about) return;
    const { edits, edited, job: { id, scale } } = this;
    const address = edited ? (...place) => api.editedTile(id, edits, ...place) : (...place) => api.resultTile(id, 'mask', ...place);
    this.follow(this.mask, { key: `${id} ${edited ? JSON.stringify(edits) : 'mask'}`, scale, tile: (...place) => greyTile(address(...place)) });
    this.mask.colour(this.classes.map((entry) => entry.color));
  }

  follow(layer, source) {
    if (layer.source?.key === source.key) return;
    layer.show(source, this.slide);
    if (this.progress) layer.grow(this.progress.rects, this.progress.revision, this.progress.run);
  }

  /** What a byte of the maps stands for, in words: a mean cosine, of a linear head the logit of its class. */
  wordsFor(byte) {
    const { unit, limit } = this.about;
    return this.scoreWords(activation(byte) * (unit === 'logit' ? limit : 1));
  }

  scoreWords(value, digits = 2) {
    return this.about.unit === 'logit' ? `logit ${minus(value.toFixed(1))}` : minus(value.toFixed(digits));
  }

  valueAt(x, y) {
    const value = this.index === null ? null : this.heat.valueAt(x, y);
    return value === null ? null : `${this.nameOf(this.index)} ${this.wordsFor(value)}`;
  }

  destroy() {
    this.watch.stop();
    this.mask.destroy();
    this.heat.destroy();
    this.view.destroy();
  }
}
