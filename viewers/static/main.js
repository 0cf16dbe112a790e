// The Slides tab: ties list, viewer, mask and controls together. The server keeps slides, jobs and results; the
// browser keeps only what is looked at, so that reloading, closing and reopening lose nothing.

import { api, memory } from './api.js';
import { AreasPanel } from './areas_panel.js';
import { Computing } from './computing.js';
import { h, saveFile } from './dom.js';
import { Drawing } from './drawing.js';
import { Drawers } from './drawers.js';
import { Guide } from './guide.js';
import { InSight } from './in_sight.js';
import { JobList } from './job_list.js';
import { JobWatch } from './job_watch.js';
import { Labels } from './labels.js';
import { LayerPanel } from './layer_panel.js';
import { Layers } from './layers.js';
import { LEAST_MS, lookAgain } from './look_again.js';
import { Opening } from './opening.js';
import { Panel } from './panel.js';
import { Permalink } from './permalink.js';
import { makeProbe } from './probe.js';
import { Readout } from './readout.js';
import { Review } from './review.js';
import { SlideList, merged } from './slide_list.js';
import { SlideView } from './slide_view.js';
import { saveSnapshot } from './snapshot.js';
import { Toasts } from './toasts.js';
import { Uploads } from './uploads.js';
import { shownBy } from './view_address.js';
import { welcome } from './welcome.js';

const UNREAD_MS = { first: 400, last: 3000 }; // between looks while slides are being read, less and less often
const EMPTY_MS = 4000;
const OTHERS_MS = 5000;
const NOBODY_MS = 30000;

export async function mount(root) {
  window.__lpd?.destroy?.();
  const workspace = new Workspace(root);
  window.__lpd = workspace.probe;
  await workspace.begin();
}

class Workspace {
  constructor(root) {
    this.root = root;
    this.opening = new Opening(this);
    this.computing = new Computing(this);
    this.slides = [];
    this.models = [];
    this.jobs = [];
    this.slide = null;
    this.job = null;
    const stage = h('section', { class: 'lpd-stage', 'aria-label': 'Viewer' });
    this.guide = new Guide(root);
    this.uploads = new Uploads({ onArrived: (slide) => this.attempt(() => this.arrived(slide)), onTrouble: (message) => this.toast(message) });
    this.list = new SlideList((id) => this.openSlide(id), (slide) => this.toast(slide.error), [this.uploads.input, this.uploads.button, this.guide.button]);
    this.jobList = new JobList({
      onOpen: (job) => this.openSlide(job.slide_id, job.id),
      onCancel: (job) => this.attempt(() => this.computing.cancel(job)),
      mayCancel: (job) => this.mayCancel(job),
    });
    this.list.element.append(this.uploads.element, this.jobList.element);
    this.drawers = new Drawers(root);
    this.panel = new Panel({
      setMpp: (mpp) => this.attempt(() => this.setMpp(mpp)),
      segment: (what) => this.attempt(() => this.computing.segment(what)),
      cancel: () => this.attempt(() => this.computing.cancel(this.job)),
      mayCancel: (job) => this.mayCancel(job),
      chooseJob: (id) => this.showJob(this.jobs.find((job) => job.id === id)),
      colour: () => this.colour(),
      chooseModel: () => this.colour(),
    });
    this.toasts = new Toasts();
    const title = h('h1', { class: 'lpd-unseen' }, 'LPD: tissue segmentation of whole slides');
    root.replaceChildren(title, this.list.element, stage, this.panel.element, this.guide.card, this.drawers.element, this.toasts.element);
    this.readout = new Readout(this);
    this.link = new Permalink(() => shownBy(this));
    this.view = new SlideView(stage, {
      onToggleMask: () => this.layers.toggle('mask'),
      classAt: (x, y) => this.readout.classAt(x, y),
      onMove: () => this.link.note(),
      onLink: () => this.attempt(() => this.copyLink()),
      onSnapshot: () => this.attempt(() => saveSnapshot(this)),
      onLost: () => this.listAgain(LEAST_MS - (Date.now() - this.listedAt)), // its file may be another by now
    });
    this.layers = new Layers(this.view, { onChange: () => this.onLayers(), onLook: () => this.link.note(), chosen: () => this.chosenClasses });
    this.drawing = new Drawing(this.view, {
      classes: () => this.shapeClasses,
      onTrouble: (message) => this.toast(message),
      onSegment: (feature) => this.attempt(() => this.computing.segment(feature)),
      onTool: (name) => name !== 'hand' && [this.review, this.labels].forEach((mode) => mode.leave()),
      onChange: () => this.areasPanel?.changed(),
    });
    this.areasPanel = new AreasPanel(this.drawing.shapes, {
      colours: () => this.layers.palette,
      attempt: (act) => this.attempt(act),
      saveFile,
      onSwitch: () => this.layers.toggle('review'),
      onNews: () => this.review.refresh(true),
    });
    this.review = new Review(this.view, this.layers, {
      onTrouble: (error) => this.attempt(() => Promise.reject(error)),
      onPointer: (taken) => this.takePointer(taken, this.labels),
    });
    this.labels = new Labels(this.view, this.layers, {
      onTrouble: (error) => this.attempt(() => Promise.reject(error)),
      onPointer: (taken) => this.takePointer(taken, this.review),
      onTold: (words) => this.toast(words, 'info'),
      shapes: () => this.drawing.shapes.features,
    });
    this.panel.addNote(this.review.panel.words);
    this.panel.adopt(this.areasPanel, this.panel.result);
    this.panel.adopt(this.review);
    this.panel.adopt(this.labels);
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
    this.sight = new InSight(root, () => this.attempt(() => lookAgain(this)));
    this.probe = makeProbe(this);
  }

  /** One way of working has the pointer now, so that the other has not; or nobody has. */
  takePointer(taken, other) {
    if (taken) other?.leave();
    this.drawing.pause(taken);
  }

  async begin() {
    await this.attempt(async () => {
      await Promise.all([this.loadSlides(), this.loadModels(), this.loadSetup()]);
      this.followOthers();
      const asked = this.link.asked.slide;
      const usable = this.slides.filter((slide) => slide.status !== 'error');
      const known = (id) => usable.some((slide) => slide.id === id) && id;
      if (asked && !known(asked)) this.toast('The slide in the address is not in the slides folder any more.');
      const first = known(asked) || known(memory.get('slide', '')) || usable[0]?.id;
      if (first) await this.openSlide(first);
      else this.nothingToShow();
    });
    if (this.guide.wanted) this.guide.begin();
    this.probe.ready = true;
  }

  nothingToShow() {
    const [onCopy, onUpload] = [(path) => this.copy(path, 'The path is in the clipboard.'), () => this.uploads.input.click()];
    const onSample = () => this.attempt(async () => this.arrived(await api.fetchSample()));
    this.view.close(welcome({ folder: this.folder, count: this.slides.length, setup: this.setup, onSample, onCopy, onUpload }));
    this.panel.render(this);
    this.empty = true;
    this.listAgain(EMPTY_MS);
  }

  async loadSetup() {
    const [setup, me] = await Promise.all([api.setup(), api.me()]);
    this.setup = setup;
    this.me = me;
    this.uploads.allow(setup.max_upload, this.list.element);
  }

  mayCancel(job) {
    return Boolean(this.me?.may_cancel_all) || job.user === this.me?.user;
  }

  /** The list, the first time as a whole, then what has changed in it. */
  async loadSlides() {
    this.listedAt = Date.now();
    const { slides, changed, gone, folder, revision } = await api.slides(this.revision);
    Object.assign(this, { folder, revision });
    if (slides) this.slides = slides;
    else if (changed.length || gone.length) this.slides = merged(this.slides, changed, gone);
    if (slides || changed.length || gone.length) this.list.render(this.slides, this.slide?.id);
    await this.opening.follow();
    const unread = this.slides.some((slide) => slide.status === 'unread');
    this.pause = unread ? Math.min(UNREAD_MS.last, (this.pause ?? UNREAD_MS.first / 1.5) * 1.5) : undefined;
    const first = this.empty && this.slides.find((slide) => slide.status === 'ok');
    if (first) await this.openSlide(first.id);
    if (unread || this.empty) this.listAgain(this.pause ?? EMPTY_MS);
  }

  listAgain(pause) {
    clearTimeout(this.listing);
    if (this.root.isConnected) this.listing = setTimeout(() => this.attempt(() => this.loadSlides()), pause);
  }

  /** A slide was put into the folder from here. */
  async arrived({ id, name }) {
    this.toast(`${name} is in the slides folder now.`, 'info');
    this.revision = undefined;
    await this.loadSlides();
    if (!this.slide && this.slides.some((slide) => slide.id === id && slide.status === 'ok')) await this.openSlide(id);
  }

  async loadModels() {
    const { checkpoints, folder } = await api.checkpoints();
    this.models = checkpoints;
    this.modelFolder = folder;
  }

  /** Keep the jobs, and the progress on the pictures of their slides, up to date. */
  async followOthers() {
    clearTimeout(this.others);
    const { jobs: running } = await api.going().catch(() => ({ jobs: this.badged ?? [] })); // no answer is no news
    this.jobList.render(running);
    for (const job of running) this.list.badge(job.slide_id, job);
    for (const job of this.badged ?? []) if (!running.some((one) => one.slide_id === job.slide_id)) this.list.badge(job.slide_id, { ...job, ended: true });
    const ids = running.map((job) => `${job.id} ${job.state}`).join();
    this.badged = running;
    if (ids !== (this.knownJobs ?? '')) this.attempt(() => this.loadSlides());
    this.knownJobs = ids;
    if (this.root.isConnected) this.others = setTimeout(() => this.followOthers(), running.length && !document.hidden ? OTHERS_MS : NOBODY_MS);
  }

  /** Open a slide, and a result over it: the named one, else one at work, else the newest with a mask. */
  async openSlide(id, result) {
    this.drawers.open(null);
    await this.attempt(() => this.opening.open(id, result));
  }

  async copyLink() {
    this.link.write();
    await this.copy(String(this.link.address), 'The link to this view is in the clipboard.', 'the address bar holds the link to this view.');
  }

  async copy(text, done, instead = 'mark the text and copy it.') {
    try {
      await navigator.clipboard.writeText(text);
      this.toast(done, 'info');
    } catch {
      this.toast(`The browser does not let this page copy: ${instead}`, 'info');
    }
  }

  showJob(job) {
    this.watch.stop();
    this.job = job ?? null;
    this.areas = this.ratio = null;
    this.readout.forget();
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
    if (job.ended && !before?.ended) {
      this.loadAreas(job);
      if (before?.id === job.id) this.followOthers(); // it was seen to end: the list and the line have changed
    }
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
    const found = this.classes.length ? this.classes : this.chosenClasses;
    return found.slice(0, -1).map(({ name, color }) => ({ name, color }));
  }

  get chosenClasses() {
    return this.models.find((model) => model.name === this.panel.model)?.classes ?? [];
  }

  /** Classes of the result that is shown. */
  get classes() {
    return this.job?.classes.length ? this.job.classes : [];
  }

  /** Areas of the mask that is shown: `whose` they are, the model's or people's, is told once people have changed it. */
  get figures() {
    const { corrected, changed_mm2: changed } = (this.layers.review && this.review.status) || {};
    if (!changed) return { areas: this.areas, ratio: this.ratio, whose: '' };
    if (this.layers.on.review) return { ...corrected, whose: 'with corrections', revision: this.layers.review.revision };
    return { areas: this.areas, ratio: this.ratio, whose: 'model alone' };
  }

  colour() {
    this.layers.colour();
    this.areasPanel?.changed();
    this.link.note();
  }

  get hidden() {
    return this.layers.hidden;
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

  toast(...words) {
    this.toasts.show(...words);
  }

  destroy() {
    clearTimeout(this.others);
    clearTimeout(this.listing);
    this.sight.destroy();
    this.list.destroy();
    this.guide.destroy();
    this.uploads.destroy();
    this.unmount.disconnect();
    this.readout.destroy();
    this.watch.stop();
    this.link.destroy();
    this.review.destroy();
    this.labels.destroy();
    this.areasPanel.destroy();
    this.drawing.destroy();
    this.layers.destroy();
    this.view.destroy();
  }
}
