// The Slides tab: ties list, viewer, mask and controls together. The server keeps slides, jobs and results; the
// browser keeps only what is looked at, so that reloading, closing and reopening lose nothing.

import { api, memory } from './api.js';
import { h, icon } from './dom.js';
import { JobWatch } from './job_watch.js';
import { MaskLayer } from './mask_layer.js';
import { Panel } from './panel.js';
import { SlideList } from './slide_list.js';
import { SlideView } from './slide_view.js';

const UNREAD_RETRY_MS = 400;
const OTHERS_MS = 5000;

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
    this.hidden = new Set();
    this.maskOn = true;
    const stage = h('main', { class: 'lpd-stage' });
    this.list = new SlideList((id) => this.openSlide(id));
    this.panel = new Panel({
      setMpp: (mpp) => this.attempt(() => this.setMpp(mpp)),
      segment: (what) => this.attempt(() => this.segment(what)),
      cancel: () => this.attempt(() => this.cancel()),
      chooseJob: (id) => this.showJob(this.jobs.find((job) => job.id === id)),
      colour: () => this.colour(),
      opacity: (value) => this.mask.setOpacity(value),
    });
    this.toasts = h('div', { class: 'lpd-toasts', 'aria-live': 'polite' });
    root.replaceChildren(this.list.element, stage, this.panel.element, this.toasts);
    this.view = new SlideView(stage, {
      onToggleMask: () => this.toggleMask(),
      classAt: (x, y) => this.classAt(x, y),
    });
    this.mask = new MaskLayer(this.view);
    this.mask.setOpacity(this.panel.opacity);
    this.watch = new JobWatch({
      onGrow: (rects, revision, run) => this.mask.grow(rects, revision, run),
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
        const { slide, job, mask, view } = workspace;
        return {
          slide: slide?.name ?? null,
          job: job && { id: job.id, state: job.state, ended: job.ended, progress: job.progress },
          scale: view.scale,
          region: view.region() ?? null,
          maskFetches: mask.fetches,
          maskDrawn: mask.drawn,
          maskRevision: mask.revision,
          maskLoading: mask.loading.size,
        };
      },
    };
  }

  async begin() {
    await this.attempt(async () => {
      await Promise.all([this.loadSlides(), this.loadModels()]);
      this.followOthers();
      const asked = new URLSearchParams(location.search).get('slide');
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
      const address = new URL(location.href);
      address.searchParams.set('slide', id);
      history.replaceState(history.state, '', address);
      this.showJob(null);
      this.panel.model = slide.suggested_checkpoint;
      this.jobs = [];
      this.panel.render(this);
      const [{ jobs }] = await Promise.all([api.jobs(id), this.view.open(slide)]);
      if (this.wanted !== id) return;
      this.jobs = jobs;
      this.showJob(jobs.find((job) => !job.ended) ?? jobs.find((job) => job.has_mask) ?? jobs[0]);
      this.probe.slideOpen = true;
    });
  }

  showJob(job) {
    this.watch.stop();
    this.job = job ?? null;
    this.areas = null;
    this.hidden.clear();
    this.mask.clear();
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
    if (job.has_mask) this.mask.show(job, this.slide);
    if (job.classes.length !== before?.classes.length) this.colour();
    if (job.ended && !before?.ended) this.loadAreas(job);
    this.list.badge(job.slide_id, job);
    this.panel.render(this);
  }

  async loadAreas(job) {
    if (!job.downloads.includes('csv')) return;
    await this.attempt(async () => {
      const { areas } = await api.areas(job.id);
      if (this.job?.id !== job.id) return;
      this.areas = areas;
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
    const job = await this.startOnce(request);
    this.followOthers();
    if (job?.slide_id !== this.slide.id) return; // another slide was chosen meanwhile
    this.jobs = [job, ...this.jobs];
    if (!this.maskOn) this.toggleMask();
    this.showJob(job);
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

  toggleMask() {
    this.maskOn = !this.maskOn;
    this.mask.setVisible(this.maskOn);
    this.view.showMaskState(this.maskOn);
  }

  /** Classes to show: those of the result, or of the chosen model before there is one. */
  get classes() {
    return this.job?.classes.length ? this.job.classes : [];
  }

  colour() {
    const own = memory.get('colors', {});
    const shown = this.classes.slice(0, -1).map((entry) => own[entry.code] ?? entry.color); // background stays clear
    this.mask.colour(shown, this.hidden);
  }

  classAt(x, y) {
    const value = this.maskOn ? this.mask.valueAt(x, y) : null;
    return value === null ? null : this.classes[value]?.name;
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

  toast(message) {
    const toast = h('div', { class: 'lpd-toast', role: 'alert' }, icon('warning'), h('span', {}, message));
    toast.append(h('button', { type: 'button', title: 'Dismiss', onclick: () => toast.remove() }, '×'));
    this.toasts.replaceChildren(...[...this.toasts.children].slice(-2), toast);
    setTimeout(() => toast.remove(), 12000);
  }

  destroy() {
    clearTimeout(this.others);
    this.unmount.disconnect();
    this.watch.stop();
    this.mask.destroy();
    this.view.destroy();
  }
}
