// The layers over the slide: tissue, ground truth, class mask, one heatmap, the difference of two results. Which are
// on, and how they look, is kept here; where their values come from is the server's. What people have corrected is in
// the class mask, and marked by a layer of its own, as long as that is on.

import { api, memory } from './api.js';
import { greyTile, GreyLayer } from './grey_layer.js';

const CELL = 4; // mask pixels along a side of a score cell
const HEAT = [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]]; // dark to light
const TISSUE = [0, 140, 220];
const SAME = 254;
const MARKS = 0.5; // darkness of the lines that mark what people have judged

/** Names of layers, from the lowest to the uppermost. */
export const LAYERS = ['tissue', 'truth', 'mask', 'review', 'difference', 'heat'];

export class Layers {
  /** `onChange` is told when a layer is switched, `onLook` when one looks otherwise; `chosen` tells the classes of the
   *  chosen model: a ground truth has their colours before there is a result. */
  constructor(view, { onChange, onLook, chosen }) {
    Object.assign(this, { view, onChange, onLook, chosen });
    this.stack = Object.fromEntries(LAYERS.map((name) => [name, new GreyLayer(view)]));
    this.settings = { ...defaults(), ...memory.get('layers', {}) };
    this.on = { tissue: false, truth: false, mask: true, review: true, difference: false, heat: false };
    this.heat = null; // 'margin' or 'score-N'
    this.other = null; // the result that is compared with
    this.hidden = new Set(); // classes
    for (const name of LAYERS) this.stack[name].setOpacity(this.settings[name].opacity);
  }

  get tissueColor() {
    return TISSUE;
  }

  get mask() {
    return this.stack.mask;
  }

  /** Start over with another slide. */
  open(slide) {
    this.slide = slide;
    this.clearResult();
    for (const name of ['tissue', 'truth']) {
      this.stack[name].clear();
      if (!slide.truth && name === 'truth') this.on.truth = false;
    }
    this.refresh();
  }

  clearResult() {
    this.job = null;
    this.other = null;
    this.review = null;
    this.on.difference = false;
    for (const name of ['mask', 'review', 'difference', 'heat']) this.stack[name].clear();
  }

  /** Show a result as far as it has come. */
  showResult(job) {
    if (this.job && this.job.id !== job.id) this.clearResult(); // else what is compared with may have been chosen already
    this.job = job;
    if (!job.has_mask) return;
    this.follow('mask', this.maskSource);
    this.refresh();
  }

  /** People have said something of a result: `rects`, one for each edit of this run. Shown once that result is. */
  showReview(job, run, rects) {
    const known = this.review?.run === run ? this.review.revision : 0;
    const fresh = rects.slice(known);
    if (this.job?.id !== job.id || !this.job.has_mask || !fresh.length) return;
    const { mask, review } = this.stack;
    this.review = { run, revision: rects.length };
    review.show(reviewSource(job, run), this.slide);
    review.grow(fresh, rects.length, run);
    if (mask.source?.key === this.maskSource.key) mask.grow(fresh, mask.revision + fresh.length, mask.run);
    this.refresh();
    this.onChange();
  }

  /** Somebody begins to review: they see what they judge. */
  reviewing() {
    Object.assign(this.on, { mask: true, review: true });
    this.refresh();
    this.onChange();
  }

  get maskSource() {
    const { job, review } = this;
    return review && this.on.review ? correctedSource(job, review.run) : resultSource(job, 'mask', job.scale);
  }

  grow(rects, revision, run) {
    this.progress = { rects: this.progress?.run === run ? [...this.progress.rects, ...rects] : [...rects], revision, run };
    for (const name of ['mask', 'heat', 'difference']) if (this.stack[name].source) this.stack[name].grow(rects, revision, run);
  }

  /** Turn a layer on or off. */
  toggle(name, on = !this.on[name]) {
    this.on[name] = on;
    this.refresh();
    this.onChange();
  }

  setHeat(what) {
    this.heat = what;
    this.on.heat = Boolean(what);
    this.refresh();
    this.onChange();
  }

  compareWith(job) {
    this.other = job;
    this.on.difference = Boolean(job);
    this.refresh();
    this.onChange();
  }

  set(name, setting, value) {
    this.settings[name] = { ...this.settings[name], [setting]: value };
    memory.set('layers', this.settings);
    if (setting === 'opacity') this.stack[name].setOpacity(value);
    else this.colour();
    this.onLook();
  }

  /** Bring sources and switches together. */
  refresh() {
    if (!this.slide) return;
    if (this.on.tissue) this.stack.tissue.show(slideSource(this.slide, 'tissue', 8 / (this.slide.mpp ?? 0.5)), this.slide);
    if (this.on.truth) this.stack.truth.show(slideSource(this.slide, 'truth', 1), this.slide);
    if (this.job?.has_mask) {
      const score = Number(this.heat?.slice(6));
      if (this.heat?.startsWith('score-') && score >= this.job.classes.length - 1) this.heat = null;
      this.follow('mask', this.maskSource);
      if (this.heat) this.follow('heat', resultSource(this.job, this.heat, this.job.scale * CELL));
      if (this.other) this.follow('difference', differenceSource(this.job, this.other));
    }
    for (const name of LAYERS) this.stack[name].setVisible(this.on[name]);
    this.stack.review.setVisible(this.on.review && this.on.mask);
    this.stack.heat.setVisible(this.on.heat && Boolean(this.heat));
    this.colour();
  }

  follow(name, source) {
    const layer = this.stack[name];
    if (layer.source?.key === source.key) return;
    layer.show(source, this.slide);
    if (this.progress) layer.grow(this.progress.rects, this.progress.revision, this.progress.run);
  }

  /** Colours [r, g, b] of the classes of the result, else of the chosen model, background excluded. */
  get palette() {
    const own = memory.get('colors', {});
    const classes = this.job?.classes.length ? this.job.classes : this.chosen();
    return classes.slice(0, -1).map((entry) => own[entry.code] ?? entry.color);
  }

  /** Colours of all mask values, background included. */
  get reviewColors() {
    return [...this.palette, this.job?.classes.at(-1)?.color ?? [255, 255, 255]];
  }

  colour() {
    const shown = this.palette.map((color, value) => (this.hidden.has(value) ? null : color));
    this.mask.colour(shown, this.settings.mask.outline);
    this.stack.review.colour(this.reviewColors.map((color, value) => (this.hidden.has(value) ? null : color.map((channel) => channel * MARKS))), 'hatched');
    this.stack.truth.colour(this.palette, true);
    this.stack.difference.colour(this.palette);
    this.stack.tissue.colour([TISSUE], true);
    this.stack.heat.colour(heatColors(this.settings.heat.threshold, this.heat === 'margin'));
  }

  destroy() {
    for (const layer of Object.values(this.stack)) layer.destroy();
  }
}

function defaults() {
  const plain = { opacity: 0.6 };
  return {
    tissue: { opacity: 1 },
    truth: { opacity: 1 },
    mask: { opacity: memory.get('opacity', 0.5), outline: false },
    review: { opacity: 0.8 },
    difference: { opacity: 0.8 },
    heat: { ...plain, threshold: 0.1 },
  };
}

const resultSource = (job, layer, scale) => ({
  key: `${job.id} ${layer}`,
  scale,
  tile: (level, col, row, version) => greyTile(api.resultTile(job.id, layer, level, col, row, version)),
});

const reviewSource = (job, run) => ({
  key: `${job.id} ${run} review`,
  scale: job.scale,
  tile: (level, col, row, version) => greyTile(api.reviewTile(job.id, level, col, row, version)),
});

/** The mask with what people have said in it. */
const correctedSource = (job, run) => ({
  key: `${job.id} ${run} corrected`,
  scale: job.scale,
  async tile(level, col, row, version) {
    const [mask, said] = await Promise.all([greyTile(api.resultTile(job.id, 'mask', level, col, row, version)), greyTile(api.reviewTile(job.id, level, col, row, version))]);
    return { ...mask, values: mask.values.map((value, i) => (said.values[i] === 255 ? value : said.values[i])) };
  },
});

const slideSource = (slide, layer, scale) => ({
  key: `${slide.id} ${slide.fingerprint} ${slide.mpp} ${layer}`,
  scale,
  whole: true,
  tile: (level, col, row) => greyTile(api.slideTile(slide, layer, level, col, row)),
});

/** Where two results differ: the other one's class, 254 where they agree. */
function differenceSource(job, other) {
  const codes = job.classes.map((entry) => entry.code);
  const translated = other.classes.map((entry) => codes.indexOf(entry.code)); // the other may know other classes
  return {
    key: `${job.id} ${other.id} difference`,
    scale: Math.max(job.scale, other.scale),
    async tile(level, col, row, version) {
      const [one, two] = await Promise.all([
        greyTile(api.resultTile(job.id, 'mask', level, col, row, version)),
        greyTile(api.resultTile(other.id, 'mask', level, col, row, String(other.updated ?? 0))),
      ]);
      const values = one.values.map((value, i) => {
        if (value === 255 || two.values[i] === 255) return 255;
        const theirs = translated[two.values[i]];
        return theirs === value ? SAME : theirs < 0 ? 255 : theirs;
      });
      return { ...one, values };
    },
  };
}

/** Colours of values 0–254 for 0–1, clear below the threshold; turned round for margins, where little is much doubt. */
export function heatColors(threshold, inverted) {
  return Array.from({ length: 255 }, (_, value) => {
    const share = inverted ? 1 - value / 254 : value / 254;
    if (share < threshold) return null;
    return heat(share);
  });
}

/** Colours of the heatmap from 0 to 1. */
export const HEAT_RAMP = HEAT;

export function heat(share) {
  const at = share * (HEAT.length - 1);
  const low = Math.min(HEAT.length - 2, Math.floor(at));
  return HEAT[low].map((channel, i) => Math.round(channel + (at - low) * (HEAT[low + 1][i] - channel)));
}
