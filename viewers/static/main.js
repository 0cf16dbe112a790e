// The Slides tab: ties list, viewer, mask and controls together. The server keeps slides, jobs and results; the
// browser keeps only what is looked at, so that reloading, closing and reopening lose nothing.

import { api, memory } from './api.js';
import { AreasPanel } from './areas_panel.js';
import { h, icon, saveFile } from './dom.js';
import { Drawing } from './drawing.js';
import { JobWatch } from './job_watch.js';
import { LayerPanel } from './layer_panel.js';
import { HEAT_RAMP, LAYERS, Layers } from './layers.js';
import { Panel } from './panel.js';
import { Permalink } from './permalink.js';
import { Review } from './review.js';
import { SlideList } from './slide_list.js';
import { SlideView } from './slide_view.js';
import { drawSnapshot, fileName, legendOf, linesOf, toBlob } from './snapshot.js';

const UNREAD_RETRY_MS = 400;
const OTHERS_MS = 5000;
const REST_MS = 150; // how long the pointer rests before scores are asked for
/** What is said where a request is not computed from the start, see viewers/asked_before.py. */
const FOUND = {
  there: (job) => (job.ended ? 'This has been segmented with this model before: here is the result.' : 'This is being segmented already.'),
  'going on': () => 'The segmentation that had not come to its end goes on from there.',
};

export async function mount(root) {
  window.__lpd?.destroy?.();
  const workspace = new Workspace(root);
  window.__lpd = workspace.probe;
  await workspace.begin();
}

class Workspace {
  constructor(root) {
    this.root = root;
    this.slides = [];
    this.models = [];
    this.jobs = [];
    this.slide = null;
    this.job = null;
    const stage = h('main', { class: 'lpd-stage' });
    this.list = new SlideList((id) => this.openSlide(id));
    this.panel = new Panel({
      setMpp: (mpp) => this.attempt(() => this.setMpp(mpp)),
      segment: (what) => this.attempt(() => this.segment(what)),
      cancel: () => this.attempt(() => this.cancel()),
      chooseJob: (id) => this.showJob(this.jobs.find((job) => job.id === id)),
      colour: () => this.colour(),
    });
    this.toasts = h('div', { class: 'lpd-toasts', 'aria-live': 'polite' });
    root.replaceChildren(this.list.element, stage, this.panel.element, this.toasts);
    this.link = new Permalink(() => this.shown);
    this.view = new SlideView(stage, {
      onToggleMask: () => this.layers.toggle('mask'),
      classAt: (x, y) => this.classAt(x, y),
      onMove: () => this.link.note(),
      onLink: () => this.attempt(() => this.copyLink()),
      onSnapshot: () => this.attempt(() => this.snapshot()),
    });
    this.layers = new Layers(this.view, () => this.onLayers());
    this.drawing = new Drawing(this.view, {
      classes: () => this.shapeClasses,
      onTrouble: (message) => this.toast(message),
      onSegment: (feature) => this.attempt(() => this.segment(feature)),
      onTool: (name) => name !== 'hand' && this.review.leave(),
      onChange: () => this.areasPanel?.changed(),
    });
    this.areasPanel = new AreasPanel(this.drawing.shapes, { colours: () => this.layers.palette, attempt: (act) => this.attempt(act), saveFile });
    this.review = new Review(this.view, this.layers, {
      onTrouble: (error) => this.attempt(() => Promise.reject(error)),
      onPointer: (taken) => this.drawing.pause(taken),
    });
    this.panel.addNote(this.review.panel.words);
    this.panel.adopt(this.areasPanel, this.panel.result);
    this.panel.adopt(this.review);
    this.panel.adopt(new LayerPanel(this.layers));
    this.panel.adopt(this.drawing.panel);
    this.watch = new JobWatch({
      onGrow: (rects, revision, run) => this.layers.grow(rects, revision, run),
      onState: (job) => this.onState(job),
      onLost: (lost) => this.panel.lost(lost),
      onGone: (id) => this.forget(id),
    });
    this.unmount = new MutationObserver(() => root.isConnected || this.destroy());
    this.unmount.observe(document.body, { childList: true, subtree: true });
    this.probe = this.makeProbe();
  }

  /** What tests and curious people may look at in `window.__lpd`. */
  makeProbe() {
    const workspace = this;
    return {
      ready: false,
      slideOpen: false,
      errors: [],
      destroy: () => workspace.destroy(),
      get state() {
        const { slide, job, layers, view, drawing: { shapes } } = workspace;
        const { mask } = layers;
        return {
          slide: slide?.name ?? null,
          job: job && { id: job.id, state: job.state, ended: job.ended, progress: job.progress },
          scale: view.scale,
          region: view.region() ?? null,
          maskFetches: mask.fetches,
          maskDrawn: mask.drawn,
          maskRevision: mask.revision,
          maskLoading: mask.loading.size,
          layers: Object.fromEntries(LAYERS.map((name) => [name, { on: layers.on[name], drawn: layers.stack[name].drawn, loading: layers.stack[name].loading.size, fetches: layers.stack[name].fetches }])),
          heat: layers.heat,
          review: workspace.review.probe,
          turn: view.osd.viewport?.getRotation() ?? 0,
          shapes: shapes.features.length,
          saved: !shapes.unsaved,
          selected: shapes.selected,
        };
      },
    };
  }

  async begin() {
    await this.attempt(async () => {
      await Promise.all([this.loadSlides(), this.loadModels()]);
      this.followOthers();
      const asked = this.link.asked.slide;
      const usable = this.slides.filter((slide) => slide.status !== 'error');
      const known = (id) => usable.some((slide) => slide.id === id) && id;
      if (asked && !known(asked)) this.toast('The slide in the address is not in the slides folder any more.');
      const first = known(asked) || known(memory.get('slide', '')) || usable[0]?.id;
      if (first) await this.openSlide(first);
      else this.nothingToShow();
    });
    this.probe.ready = true;
  }

  nothingToShow() {
    this.view.close([
      h('strong', {}, this.slides.length ? 'No slide in the folder can be opened' : 'No slides yet'),
      h('span', {}, `Put slide files (SVS, NDPI, MRXS, TIFF …) into ${this.folder} and reload the page.`),
    ]);
    this.panel.render(this);
  }

  async loadSlides() {
    const { slides, folder } = await api.slides();
    this.slides = slides;
    this.folder = folder;
    this.list.render(slides, this.slide?.id);
    if (slides.some((slide) => slide.status === 'unread')) setTimeout(() => this.attempt(() => this.loadSlides()), UNREAD_RETRY_MS);
  }

  async loadModels() {
    const { checkpoints, folder } = await api.checkpoints();
    this.models = checkpoints;
    this.modelFolder = folder;
  }

  /** Keep the progress on the pictures of other slides' running jobs up to date, as long as there are any. */
  async followOthers() {
    clearTimeout(this.others);
    const { jobs } = await api.jobs().catch(() => ({ jobs: [] }));
    const running = jobs.filter((job) => !job.ended);
    for (const job of running) this.list.badge(job.slide_id, job);
    for (const job of this.badged ?? []) if (!running.some((one) => one.slide_id === job.slide_id)) this.list.badge(job.slide_id, { ...job, ended: true });
    this.badged = running;
    if (running.length && this.root.isConnected) this.others = setTimeout(() => this.followOthers(), OTHERS_MS);
  }

  async openSlide(id) {
    await this.attempt(async () => {
      this.probe.slideOpen = false;
      this.wanted = id;
      const slide = { ...this.slides.find((known) => known.id === id), ...(await api.slide(id)) };
      if (this.wanted !== id) return; // another slide was chosen meanwhile
      this.slide = slide;
      this.list.select(id);
      memory.set('slide', id);
      this.showJob(null);
      this.panel.model = slide.suggested_checkpoint;
      this.jobs = [];
      this.panel.render(this);
      const [{ jobs }] = await Promise.all([api.jobs(id), this.view.open(slide), this.attempt(() => this.drawing.open(slide))]);
      if (this.wanted !== id) return;
      this.jobs = jobs;
      this.layers.open(slide);
      const asked = this.link.take(id);
      this.showJob(jobs.find((job) => job.id === asked.result) ?? jobs.find((job) => !job.ended) ?? jobs.find((job) => job.has_mask) ?? jobs[0]);
      this.restore(asked);
      this.probe.slideOpen = true;
    });
  }

  /** Show what the address asked for. */
  restore({ x, y, scale, turn, on, heat, hide, opacity }) {
    const { layers } = this;
    if (x && y && scale) this.view.show({ x: Number(x), y: Number(y), scale: Number(scale), degrees: Number(turn ?? 0) }, true);
    if (on !== undefined) for (const name of LAYERS) if (name !== 'difference') layers.on[name] = on.split(',').includes(name);
    if (heat) layers.heat = heat;
    if (opacity) layers.set('mask', 'opacity', Number(opacity));
    const codes = hide?.split(',') ?? [];
    this.classes.forEach((entry, value) => codes.includes(entry.code) && layers.hidden.add(value));
    layers.refresh();
    this.onLayers();
  }

  /** What the address says of the page. */
  get shown() {
    const { slide, job, layers, view } = this;
    if (!slide || !view.item) return {};
    const { x, y, scale, degrees } = view.where;
    return {
      slide: slide.id,
      x,
      y,
      scale,
      turn: degrees || null,
      result: job?.id,
      on: LAYERS.filter((name) => layers.on[name] && name !== 'difference').join(',') || 'none',
      heat: layers.on.heat ? layers.heat : null,
      hide: [...layers.hidden].map((value) => this.classes[value]?.code).join(','),
      opacity: layers.settings.mask.opacity,
    };
  }

  async copyLink() {
    this.link.write();
    const address = String(this.link.address);
    try {
      await navigator.clipboard.writeText(address);
      this.toast('The link to this view is in the clipboard.', 'info');
    } catch {
      this.toast(`The browser does not let this page copy: the address bar holds the link to this view.`, 'info');
    }
  }

  async snapshot() {
    const { view, slide, classes, job, layers } = this;
    if (!slide || !view.item) return;
    const picture = drawSnapshot(view, { entries: legendOf({ layers, classes, job, heatRamp: HEAT_RAMP }), lines: linesOf({ slide, job, layers, view }) });
    const name = fileName({ slide, view });
    saveFile(await toBlob(picture), name);
    this.toast(`The browser saves this view as ${name}.`, 'info');
  }

  showJob(job) {
    this.watch.stop();
    this.job = job ?? null;
    this.areas = this.ratio = null;
    this.rested = null;
    this.layers.hidden.clear();
    this.layers.clearResult();
    this.colour();
    if (job) {
      this.loadAreas(job);
      this.watch.start(job.id);
    }
    this.panel.render(this);
  }

  onState(job) {
    const before = this.job;
    this.job = job;
    this.jobs = this.jobs.map((known) => (known.id === job.id ? job : known));
    if (job.has_mask) this.layers.showResult(job);
    if (job.classes.length !== before?.classes.length) this.colour();
    if (job.ended && !before?.ended) this.loadAreas(job);
    this.list.badge(job.slide_id, job);
    this.panel.render(this);
  }

  async loadAreas(job) {
    if (!job.downloads.includes('csv')) return;
    await this.attempt(async () => {
      const { areas, ratio } = await api.areas(job.id);
      if (this.job?.id !== job.id) return;
      Object.assign(this, { areas, ratio });
      this.panel.render(this);
    });
  }

  async setMpp(mpp) {
    const details = await api.setMpp(this.slide.id, mpp);
    this.slides = this.slides.map((slide) => (slide.id === details.id ? { ...slide, ...details } : slide));
    this.list.render(this.slides, this.slide.id);
    if (this.slide.id !== details.id) return; // another slide was chosen meanwhile
    this.slide = { ...this.slide, ...details };
    this.view.update(this.slide);
    this.panel.render(this);
  }

  async segment(what) {
    const request = { slide: this.slide.id, checkpoint: this.panel.model, device: this.panel.device };
    if (what === 'view') request.region = this.view.region();
    if (what.geometry) request.polygons = what.geometry.type === 'Polygon' ? [what.geometry.coordinates] : what.geometry.coordinates;
    await this.compute(request);
  }

  /** Have a request computed, or show what was computed for the same one before. */
  async compute(request) {
    const job = await this.startOnce(request);
    this.followOthers();
    if (job?.slide_id !== this.slide.id) return; // another slide was chosen meanwhile
    this.jobs = [job, ...this.jobs.filter((known) => known.id !== job.id)];
    this.layers.on.mask = true;
    this.showJob(job);
    if (FOUND[job.found]) {
      const anew = { name: 'Compute anew', act: () => this.attempt(() => this.compute({ ...request, anew: true })) };
      this.toast(FOUND[job.found](job), 'info', job.ended ? anew : null);
    }
  }

  /** Start a job; nothing while another start has not been answered, so that a double click asks once. */
  async startOnce(request) {
    if (this.starting) return null;
    this.starting = true;
    this.panel.render(this);
    try {
      return await api.start(request);
    } finally {
      this.starting = false;
      this.panel.render(this);
    }
  }

  async cancel() {
    const job = await api.cancel(this.job.id);
    if (job.id === this.job?.id) this.onState(job);
  }

  /** The folder of the result that is shown was deleted: offer the others, and the buttons again. */
  forget(id) {
    this.jobs = this.jobs.filter((job) => job.id !== id);
    this.showJob(this.jobs[0]);
    this.toast('This result was deleted from the results folder.');
  }

  /** A layer was switched or looks otherwise. */
  onLayers() {
    this.view.showMaskState(this.layers.on.mask);
    this.panel.render(this);
    this.link.note();
  }

  /** Classes to name regions by: of the result that is shown, else of the chosen model. */
  get shapeClasses() {
    const found = this.classes.length ? this.classes : this.models.find((model) => model.name === this.panel.model)?.classes ?? [];
    return found.slice(0, -1).map(({ name, color }) => ({ name, color }));
  }

  /** Classes to show: those of the result, or of the chosen model before there is one. */
  get classes() {
    return this.job?.classes.length ? this.job.classes : [];
  }

  colour() {
    this.layers.colour();
    this.areasPanel?.changed();
    this.link.note();
  }

  get hidden() {
    return this.layers.hidden;
  }

  /** What the pointer is on: the class at once, its score when the pointer rests. */
  classAt(x, y) {
    const value = this.layers.on.mask ? this.layers.mask.valueAt(x, y) : null;
    if (value === null) return null;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    const reviewed = this.layers.on.review && this.layers.stack.review.valueAt(x, y) !== null ? ' · reviewed' : '';
    const { rested } = this;
    if (rested?.x === column && rested.y === row && rested.value === value) return `${this.classes[value]?.name}${rested.text}${reviewed}`;
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.askScore(column, row, value), REST_MS);
    return `${this.classes[value]?.name}${reviewed}`;
  }

  async askScore(x, y, value) {
    const { job } = this;
    const { scores } = await api.value(job?.id, x, y).catch(() => ({}));
    if (this.job !== job && this.job?.id !== job?.id) return;
    this.rested = { x, y, value, text: scores && value < scores.length ? ` ${scores[value].toFixed(2)}` : '' };
    this.view.describeReadout();
  }

  /** Do something that may fail; people read its sentence. */
  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.probe.errors.push(String(error));
      this.toast(error.status === undefined ? 'Something went wrong in the page: reload it.' : error.message);
      if (error.status === undefined) console.error(error);
    }
  }

  toast(message, kind = 'warning', choice = null) {
    const toast = h('div', { class: `lpd-toast lpd-${kind}`, role: kind === 'info' ? 'status' : 'alert' }, icon(kind), h('span', {}, message));
    const choose = () => (toast.remove(), choice.act());
    if (choice) toast.append(h('button', { type: 'button', class: 'lpd-choice', onclick: choose }, choice.name));
    toast.append(h('button', { type: 'button', title: 'Dismiss', onclick: () => toast.remove() }, '×'));
    this.toasts.replaceChildren(...[...this.toasts.children].slice(-2), toast);
    setTimeout(() => toast.remove(), 12000);
  }

  destroy() {
    clearTimeout(this.others);
    this.unmount.disconnect();
    clearTimeout(this.resting);
    this.watch.stop();
    this.link.destroy();
    this.review.destroy();
    this.areasPanel.destroy();
    this.drawing.destroy();
    this.layers.destroy();
    this.view.destroy();
  }
}
