// The Compare tab: one slide twice, each side with a model's prototypes over it, moved together.

import { api, memory } from './api.js';
import { CompareControls } from './compare_controls.js';
import { CompareEdits } from './compare_edits.js';
import { CompareFigures } from './compare_figures.js';
import { CompareGallery } from './compare_gallery.js';
import { CompareMaps } from './compare_maps.js';
import { DataAnswers } from './compare_over.js';
import { ComparePlace } from './compare_place.js';
import { Side } from './compare_side.js';
import { h } from './dom.js';
import { InSight } from './in_sight.js';
import { LinkedViews } from './linked_views.js';
import { LEAST_MS } from './look_again.js';
import { PrototypePicker } from './prototype_picker.js';
import { Toasts } from './toasts.js';

export async function mount(root) {
  window.__lpdCompare?.destroy?.();
  const comparison = new Comparison(root);
  window.__lpdCompare = comparison.probe;
  await comparison.begin();
}

class Comparison {
  constructor(root) {
    this.root = root;
    root.classList.add('lpd-compare');
    Object.assign(this, { slide: null, slides: [], models: [], matching: null });
    this.toasts = new Toasts();
    const acts = {
      chooseModel: (side, model) => this.attempt(() => this.chooseModel(side, model)),
      compute: (side) => this.attempt(() => this.compute(side)),
      chooseCode: (side, code) => this.chooseClass(code, [side]),
      changed: (side) => this.attempt(() => this.changed(side)),
      grew: (side, rects) => this.maps.grew(side, rects),
      ranged: () => this.maps.draw(),
      trouble: (text) => this.toasts.show(text),
      lost: () => this.lost(),
      toggleMask: () => this.controls.toggleMask(),
    };
    this.sides = [new Side('left', acts), new Side('right', acts)];
    const [left, right] = this.sides;
    right.view.keys.destroy(); // keys move the left one, which takes the right one along
    this.pair = h('div', { class: 'lpd-pair' }, left.stage, right.stage);
    this.controls = new CompareControls(this.pair, {
      onSlide: (id) => this.attempt(() => this.openSlide(id)),
      onLook: () => this.maps.draw(),
    });
    this.picker = new PrototypePicker({
      onClass: (code) => this.chooseClass(code),
      onPick: (side, index) => this.pick(side, index),
    });
    this.maps = new CompareMaps(this.sides, this.controls);
    const attempt = (act) => this.attempt(act);
    this.answers = new DataAnswers(() => [this.figures, this.gallery].forEach((part) => part.progress()));
    const over = { answers: this.answers, onOver: () => this.giveUp(), onStop: (value) => this.stop(value) };
    this.figures = new CompareFigures({ attempt, ...over, onFigure: (title, path) => attempt(() => this.place.draws(title, path)) });
    this.edits = new CompareEdits({ attempt, onEdit: () => this.edited(), onNamed: (model, names) => this.named(model, names), onSaved: (model) => this.saved(model) });
    this.gallery = new CompareGallery({ attempt, ...over, onGo: (region, slide) => attempt(() => this.go(region, slide)), onTile: (data, number) => attempt(() => this.place.inspectTile(data, number)) });
    this.place = new ComparePlace(this.sides, this.pair, attempt);
    this.controls.bar.append(...this.place.buttons);
    this.alone = h('p', { class: 'lpd-hint', hidden: true, 'data-said': 'alone' }, 'There is one model only, so both sides show it: train a second one in the Train tab, save an edited copy below, or put its file into the checkpoints folder.');
    const parts = [this.picker.element, this.controls.looks, this.edits.element, this.figures.element, this.gallery.element];
    this.panel = h('aside', { class: 'lpd-panel', 'aria-label': 'Prototypes' }, h('h2', { class: 'lpd-unseen' }, 'What is compared'), h('section', { class: 'lpd-sides' }, left.element, right.element, this.alone), parts);
    root.replaceChildren(h('h1', { class: 'lpd-unseen' }, 'LPD: compare prototypes of two models'), this.controls.bar, this.pair, this.panel, this.toasts.element, this.place.dialog);
    this.linked = new LinkedViews([left.view, right.view]);
    this.sight = new InSight(root, () => this.attempt(() => this.lookAgain()));
    this.unmount = new MutationObserver(() => root.isConnected || this.destroy());
    this.unmount.observe(document.body, { childList: true, subtree: true });
    this.errors = [];
    this.probe = this.makeProbe();
  }

  makeProbe() {
    const comparison = this;
    return {
      ready: false,
      errors: this.errors,
      destroy: () => this.destroy(),
      get state() {
        const { sides, slide, code, matching, controls, maps: { difference } } = comparison;
        const each = ({ job, about, index, heat, mask, view, model, progress }) => ({ model, panels: progress?.rects.length ?? 0, job: job && { id: job.id, state: job.state, maps: Boolean(about) }, index, heat: { drawn: heat.drawn, fetches: heat.fetches, loading: heat.loading.size }, mask: { drawn: mask.drawn, loading: mask.loading.size }, place: view.item ? view.placement().matrix : null });
        return { slide: slide?.name ?? null, code, matched: Boolean(matching), mode: controls.mode, difference: { drawn: difference.drawn, panels: difference.rects.length, loading: difference.loading.size }, left: each(sides[0]), right: each(sides[1]) };
      },
    };
  }

  async begin() {
    await this.attempt(async () => {
      await this.loadLists();
      await this.openFirst();
    });
    this.probe.ready = true;
  }

  async loadLists() {
    const noData = () => []; // an app may be without them
    const [{ slides }, { checkpoints }, data] = await Promise.all([api.slides(), api.checkpoints(), api.dataSets().catch(noData)]);
    for (const part of [this.figures.over, this.gallery.over, this.place]) part.offer(data);
    this.slides = slides.filter((slide) => slide.status !== 'error');
    this.models = checkpoints.filter((model) => !model.error);
    this.controls.offer(this.slides, this.slide);
    this.alone.hidden = this.models.length !== 1;
  }

  async openFirst() {
    const first = [memory.get('compared', ''), memory.get('slide', '')].find((id) => this.slides.some((slide) => slide.id === id)) ?? this.slides[0]?.id;
    if (first && this.models.length) await this.openSlide(first);
    else this.nothing();
  }

  /** Take up the slides, models and results that have come since; what is looked at stays. */
  async lookAgain() {
    if (!this.probe.ready) return;
    await this.loadLists();
    const { slide } = this;
    if (!slide) return this.openFirst();
    for (const side of this.sides) side.offer(this.models, side.model);
    this.answers.forget();
    this.gallery.forget();
    this.figures.forget();
    if (this.wanted !== slide.id || !(await this.loadJobs())) return; // another one is on its way
    if (this.slides.some((known) => known.id === slide.id)) {
      const details = await api.slide(slide.id);
      if (details.fingerprint !== slide.fingerprint) {
        this.toasts.show(`${details.name} has been replaced: this is the new file.`, 'info');
        return this.openSlide(slide.id);
      }
      Object.assign(slide, details); // its resolution may be known by now
    }
    for (const side of this.sides) {
      const job = this.jobOf(side.model);
      const gone = side.job && !this.jobs.some(({ id }) => id === side.job.id); // somebody has deleted it
      if (gone || (job && job.id !== side.job?.id && !side.edited)) await this.showSide(side, side.model);
      else await side.lookAgain();
    }
    this.render();
  }

  /** A tile cannot be had: the slide's file may be another one by now. */
  lost() {
    if (Date.now() - (this.lostAt ?? 0) < LEAST_MS) return;
    this.lostAt = Date.now();
    this.attempt(() => this.lookAgain());
  }

  /** Nothing can be compared; with a model a picture can be inspected even so. */
  nothing() {
    const some = this.models.length > 0;
    const pair = some ? this.suggested({}) : [];
    this.sides.forEach((side, i) => {
      side.offer(this.models, pair[i]);
      side.button.hidden = true;
      side.view.close(some ? 'Put a slide into the slides folder first.' : 'There is no usable model in the checkpoints folder.');
    });
  }

  /** `models` are the two to show; else those looked at last, or suggested ones. */
  async openSlide(id, models = null) {
    this.wanted = id;
    const details = await api.slide(id).catch((error) => {
      if (this.wanted === id) [this.wanted, this.controls.slide] = [this.slide?.id, this.slide?.id ?? '']; // that is still shown
      throw error;
    });
    if (this.wanted !== id) return;
    const slide = { ...this.slides.find((known) => known.id === id), ...details };
    this.slide = slide;
    memory.set('compared', id);
    this.controls.slide = id;
    await Promise.all(this.sides.map((side) => side.view.open(slide)));
    if (!(await this.loadJobs())) return;
    const pair = models ?? this.suggested(slide);
    if (models) memory.set(`compared-models ${id}`, models);
    this.sides.forEach((side, i) => side.offer(this.models, pair[i]));
    await Promise.all(this.sides.map((side, i) => this.showSide(side, pair[i])));
    this.linked.align();
  }

  /** Two models to begin with: the last ones, else one with learnable prototypes and its clustered fellow, rather such that have maps here. */
  suggested(slide) {
    const known = (name) => this.models.find((model) => model.name === name);
    const kept = memory.get(`compared-models ${slide.id}`, []);
    if (kept.every(known) && kept.length === 2) return kept;
    const mapped = this.models.filter((model) => this.jobs && this.jobOf(model.name));
    const wished = known(slide.suggested_checkpoint);
    const first = mapped.length && !mapped.includes(wished) ? mapped[0] : wished ?? this.models[0];
    const codes = String(first.classes.map((entry) => entry.code));
    const fellowsOf = (models) => models.filter((model) => model !== first && String(model.classes.map((entry) => entry.code)) === codes);
    const clustered = ({ prototype_source: source }) => source.startsWith('kmeans');
    const pick = (fellows) => fellows.find((model) => clustered(model) !== clustered(first)) ?? fellows.find((model) => model.prototype_source !== first.prototype_source) ?? fellows[0];
    const second = pick(fellowsOf(mapped)) ?? pick(fellowsOf(this.models)) ?? first;
    return [first.name, second.name];
  }

  /** Ask for the slide's jobs; false if another slide has been chosen meanwhile. */
  async loadJobs() {
    const { slide } = this;
    if (this.wanted !== slide.id) return false;
    const { jobs } = await api.jobs(slide.id);
    if (this.wanted !== slide.id) return false;
    this.jobs = jobs;
    return true;
  }

  /** The newest result of a model with maps of the whole slide, else of a part, else one that is on its way. */
  jobOf(model) {
    const own = this.jobs.filter((job) => job.checkpoint === model && (job.prototypes || (job.maps_wanted && !job.ended)));
    return own.find((job) => job.prototypes && !job.region_l0 && !job.polygons) ?? own[0] ?? null;
  }

  async showSide(side, model) {
    await side.show(this.slide, model, this.jobOf(model));
  }

  async chooseModel(side, model) {
    if (!this.slide) return;
    memory.set(`compared-models ${this.slide.id}`, this.sides.map((one) => one.model));
    try {
      if (!(await this.loadJobs()) || side.model !== model) return; // another one has been chosen meanwhile
    } catch (error) {
      side.models.value = side.shown; // what is seen is still that one's
      throw error;
    }
    await this.showSide(side, model);
  }

  async compute(side) {
    side.button.disabled = true; // a double click asks once
    try {
      const { id, mpp } = this.slide;
      const job = await api.start({ slide: id, checkpoint: side.model, prototype_maps: true }).catch((error) => {
        if (!mpp && error.status === 400) error.message += ' It is entered in the Slides tab.';
        throw error;
      });
      if (!(await this.loadJobs())) return;
      for (const one of this.sides) if (one.model === job.checkpoint) await one.show(this.slide, one.model, job);
    } finally {
      side.button.disabled = false;
    }
  }

  /** A side has other maps, or none any more. */
  async changed(side) {
    if (side.index !== null && !side.about) side.choose(null);
    const codes = [...new Set(this.sides.flatMap((one) => one.classes.map((entry) => entry.code)))];
    this.matching = null;
    if (this.code === null && this.sides.every((one) => !one.about || one.own.length)) this.chooseClass(null, []);
    else this.chooseClass(codes.includes(this.code) ? this.code : codes[0] ?? null);
    await this.match();
  }

  /** Which prototype of the one side does what one of the other does. */
  async match() {
    const [left, right] = this.sides;
    if (!left.about || !right.about || !left.job.ended || !right.job.ended) return;
    const ids = [left.job.id, right.job.id];
    const matching = await api.matching(...ids);
    if (left.job?.id !== ids[0] || right.job?.id !== ids[1]) return;
    this.matching = matching;
    this.chooseClass(null, []);
  }

  /** The class that both sides are at; null if each is at one of its own. */
  get code() {
    const [left, right] = this.sides;
    return left.code === right.code ? left.code : null;
  }

  /** Put both sides, or one, to a class; each shows a prototype of its own. */
  chooseClass(code, sides = this.sides) {
    for (const side of sides) side.code = code;
    for (const side of this.sides) {
      const { own } = side;
      if (!own.includes(side.index)) side.choose(own[0] ?? null);
    }
    this.pick(this.sides[0], this.sides[0].index);
  }

  /** Show a prototype on its side, and its counterpart on the other one. */
  pick(side, index) {
    side.choose(index);
    const other = this.sides[side === this.sides[0] ? 1 : 0];
    const twin = index === null || !this.controls.linked ? null : this.counterpart(side, index);
    if (twin !== null) other.choose(twin);
    this.render();
  }

  render() {
    this.giveUp();
    for (const side of this.sides) side.renderClass();
    for (const part of [this.picker, this.edits, this.figures, this.gallery]) part.render(this);
    this.maps.draw();
  }

  /** What is computed over data sets that nobody looks at any more. */
  giveUp() {
    const splits = [this.figures, this.gallery].map((part) => part.over.data).filter(Boolean);
    this.answers.keep(splits.flatMap((data) => this.sides.map((side) => [data, side.shown])));
  }

  /** Nobody wants to wait for a data set any more, wherever it was chosen. */
  stop(value) {
    for (const { over } of [this.figures, this.gallery]) if (over.value === value) over.backToSlides();
  }

  /** Something was muted or merged: the mask is what shows it. */
  edited() {
    if (!this.controls.look.mask) this.controls.toggleMask();
    this.render();
  }

  named(model, names) {
    for (const side of this.sides) if (side.shown === model && side.about) side.about.names = names;
    this.render();
  }

  /** A model was saved: it can be chosen, and segmented with. */
  saved(model) {
    this.models = [...this.models, model].sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const side of this.sides) side.offer(this.models, side.model);
    this.alone.hidden = true;
    this.toasts.show(`${model.name} is among the models now; its scores are not known yet.`, 'info');
  }

  /** Fly to a region, of another slide with the same two models. */
  async go(region, slide) {
    if (slide !== this.slide.id) await this.openSlide(slide, this.sides.map((side) => side.shown));
    if (slide !== this.wanted) return;
    const [left] = this.sides;
    this.linked.lead(left.view);
    left.view.fit(region);
  }

  counterpart(side, index) {
    const [from, to] = side === this.sides[0] ? [0, 1] : [1, 0];
    return this.pairs.find((pair) => pair[from] === index)?.[to] ?? null;
  }

  /** [left, right, similarity] of the class that is looked at. */
  get pairs() {
    if (!this.sides.every((side) => side.about)) return []; // another result is on its way
    const own = this.matching?.classes.find((entry) => entry.code === this.code)?.pairs ?? []; // of two classes none
    return own.map(({ left, right, similarity }) => [left, right, similarity]);
  }

  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.errors.push(String(error));
      this.toasts.show(error.status === undefined ? 'Something went wrong in the page: reload it.' : error.message);
      if (error.status === undefined) console.error(error);
      if (error.status === 409) for (const side of this.sides) side.lookAgain(); // a model was replaced: maps can be computed again
    }
  }

  destroy() {
    this.unmount.disconnect();
    this.sight.destroy();
    this.linked.destroy();
    this.controls.destroy();
    this.maps.destroy();
    this.answers.destroy();
    for (const side of this.sides) side.destroy();
  }
}
