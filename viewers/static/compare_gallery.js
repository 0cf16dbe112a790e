// Where on the slide, on those of its folder, on all or in a data set's tiles the two chosen prototypes answer most.

import { api } from './api.js';
import { overChoice, PassNote } from './compare_over.js';
import { h } from './dom.js';

export class CompareGallery {
  constructor({ attempt, onGo, onTile, answers, onOver, onStop }) {
    Object.assign(this, { onTile, answers });
    this.attempt = attempt;
    this.onGo = onGo;
    this.found = new Map(); // result, or model, and over what -> regions by prototype, and names of their slides
    this.over = overChoice('Slides or data set of the gallery', () => {
      onOver();
      this.render(this.state);
    });
    this.body = h('div', { class: 'lpd-gallery' });
    this.note = new PassNote(answers, () => onStop(this.over.value));
    this.element = h('details', { class: 'lpd-layers lpd-tops', open: false }, h('summary', {}, h('h3', {}, 'Gallery')), this.over.element, this.note.element, this.body);
    this.element.addEventListener('toggle', () => this.state && this.render(this.state));
  }

  render(state) {
    this.state = state;
    const ready = state.sides.filter((side) => side.about && side.job.ended && side.index !== null);
    this.element.hidden = !ready.length;
    if (!this.element.open || !ready.length) return;
    for (const side of ready) if (!this.found.has(this.keyOf(side))) this.load(side);
    this.progress();
    const key = JSON.stringify(ready.map((side) => [this.keyOf(side), side.index, side.nameOf(side.index), Boolean(this.foundOf(side))]));
    if (key === this.shows) return;
    this.shows = key;
    this.body.replaceChildren(...ready.flatMap((side) => this.part(state.slide, side)));
  }

  /** Say how far passes over a data set are. */
  progress() {
    if (this.state && this.element.open) this.note.show(this.over.data, this.state.sides.filter((side) => side.about && side.job.ended && side.index !== null));
  }

  keyOf({ job, shown, about }) {
    return this.over.data ? `${shown} ${about.digest} ${this.over.value}` : `${job.id} ${job.updated} ${this.over.value}`;
  }

  foundOf(side) {
    return this.found.get(this.keyOf(side));
  }

  /** Look anew: there may be more results. */
  forget() {
    this.found.clear();
    this.shows = null;
  }

  load(side) {
    const [key, { data, value }] = [this.keyOf(side), this.over];
    this.found.set(key, null);
    this.attempt(async () => {
      try {
        this.found.set(key, data ? { ...(await this.answers.get(data, side.made)), data } : await api.gallery(side.job.id, value));
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

  part(slide, side) {
    const known = this.foundOf(side);
    const regions = known?.regions[side.index];
    const title = h('h4', {}, `${side.name === 'left' ? 'Left' : 'Right'}: ${side.nameOf(side.index)}`);
    if (!regions) return [title, h('p', { class: 'lpd-hint' }, this.over.data ? '…' : 'Looking …')];
    if (known.data) return [title, this.notice(known, side), h('div', { class: 'lpd-tops-row' }, regions.map((place, i) => this.tile(known, side, place, i)))].filter(Boolean);
    if (!regions.length) return [title, h('p', { class: 'lpd-hint' }, known.regions.some((own) => own.length) ? 'It does not count in this model, or another counts for it, too: it has no places of its own.' : 'No tile is half full of tissue.')];
    const pictures = regions.map(({ slide: id, region, score }, i) => {
      const where = id === slide.id ? '' : `${known.slides[id]}, `;
      const picture = h('img', { src: api.crop(id === slide.id ? slide : { id, fingerprint: '' }, region), alt: `Place ${i + 1}, mean of the map ${side.scoreWords(score)}`, loading: 'lazy' });
      return h('button', { type: 'button', title: `Go to ${where}x ${region[0]}, y ${region[1]}: mean of the map ${side.scoreWords(score, 3)}`, onclick: () => this.onGo(region, id) }, picture, h('span', {}, side.scoreWords(score)));
    });
    return [title, this.notice(known, side), h('div', { class: 'lpd-tops-row' }, pictures)].filter(Boolean);
  }

  /** A tile of a data set, the place in it framed; all of it can be looked at. */
  tile({ data, tile_px: size }, side, { number, tile, region, score }, i) {
    const [x, y, width, height] = region;
    const frame = h('i');
    Object.assign(frame.style, { left: `${(100 * x) / size}%`, top: `${(100 * y) / size}%`, width: `${(100 * width) / size}%`, height: `${(100 * height) / size}%` });
    const picture = h('img', { src: api.dataTile(data, number), alt: `Place ${i + 1}, mean cosine ${score.toFixed(2)}`, loading: 'lazy' });
    return h('button', { type: 'button', title: `${tile}, x ${x}, y ${y}: mean cosine in the deepest scale ${score.toFixed(3)}; all prototypes on this tile`, onclick: () => this.onTile(data, number) }, h('span', { class: 'lpd-framed' }, picture, frame), h('span', {}, score.toFixed(2)));
  }

  notice(known, side) {
    const flags = [this.flags(known, side), known.data && side.about.unit === 'logit' && 'A linear head: scores are cosines to its class’s weights.'].filter(Boolean).join(' ');
    return flags && h('p', { class: 'lpd-notice' }, flags);
  }

  /** What is odd about the prototype on these slides. */
  flags({ dead, near_duplicates: pairs }, side) {
    const twins = pairs.filter((pair) => pair.slice(0, 2).includes(side.index)).map(([one, other, r]) => `${side.nameOf(one === side.index ? other : one)} (r ${r.toFixed(2)})`);
    return [dead.includes(side.index) && 'Dead: it wins hardly anywhere in its class.', twins.length && `Near-duplicate of ${twins.join(', ')}.`].filter(Boolean).join(' ');
  }
}
