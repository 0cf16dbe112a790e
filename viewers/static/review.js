// The review of the result that is shown: what people have said of its mask, kept on the server; edits go there one
// after another, and what others say meanwhile is fetched.

import { api } from './api.js';
import { ReviewPanel } from './review_panel.js';
import { ReviewTools } from './review_tools.js';
import { UnderWay } from './under_way.js';

const OTHERS_MS = 5000;

export class Review {
  constructor(view, layers, { onTrouble, onPointer }) {
    Object.assign(this, { view, layers, onTrouble, onPointer });
    this.active = false;
    this.waiting = Promise.resolve();
    this.unanswered = new Map(); // by result that edits have still to be sent of -> { seen, count }
    this.underWay = new UnderWay();
    this.tools = new ReviewTools(view, this);
    this.panel = new ReviewPanel(this);
  }

  get element() {
    return this.panel.element;
  }

  /** Follow the page: another result, or this one has ended. */
  render({ job }) {
    const usable = job?.ended && job.has_mask ? job : null;
    if (usable?.id !== this.job?.id) this.open(usable);
    else if (this.status) this.layers.showReview(this.job, this.status.run, this.rects);
    this.panel.render();
  }

  async open(job) {
    this.leave();
    this.job = job;
    this.status = null;
    // Run and revision, once told: an edit that has still to be sent keeps them, whatever is shown by then.
    this.seen = this.unanswered.get(job?.id)?.seen ?? {};
    this.rects = []; // of all edits
    this.opened = job && this.refresh();
    await this.opened;
  }

  /** Ask what is new; `quietly` while nobody waits for it. */
  async refresh(quietly = false) {
    const { job } = this;
    try {
      this.take(job, await api.review(job.id, this.status?.revision ?? 0));
    } catch (error) {
      if (!quietly && this.job === job) this.onTrouble(error);
    }
  }

  take(job, status) {
    if (this.job?.id !== job.id || (this.seen.run === status.run && status.revision < this.seen.revision)) return; // overtaken
    const known = this.status?.run === status.run ? this.status.revision : 0;
    if (status.rects.length < status.revision - known) {
      this.status = null; // another run, of which only the last edits were asked for
      this.refresh(true);
      return;
    }
    if (!known) this.rects = [];
    this.rects = [...this.rects, ...status.rects.slice(status.rects.length - (status.revision - known))];
    this.status = status;
    // What was said of an earlier run's mask is not meant for this one.
    if (this.seen.run && this.seen.run !== status.run) this.seen = {};
    Object.assign(this.seen, said(status));
    this.layers.showReview(job, status.run, this.rects);
    this.panel.render();
    if (this.active) this.panel.reveal();
  }

  get classes() {
    return this.job?.classes ?? [];
  }

  enter() {
    if (this.active || !this.job) return;
    this.active = true;
    this.layers.reviewing();
    this.onPointer(true);
    this.tools.begin();
    this.follow();
    this.panel.render();
    this.panel.reveal();
  }

  leave() {
    if (!this.active) return;
    this.active = false;
    clearTimeout(this.timer);
    this.tools.end();
    this.onPointer(false);
    this.panel.render();
  }

  follow() {
    clearTimeout(this.timer);
    this.timer = setTimeout(async () => {
      if (!document.hidden) await this.refresh(true);
      if (this.active) this.follow();
    }, OTHERS_MS);
  }

  /** The region around a place, as `selected`: with one's own edits in it, and of the revision that was looked at. */
  async select(x, y) {
    const { job, opened } = this;
    const view = this.view.region();
    await Promise.all([this.waiting, opened]);
    await this.attempt(async () => {
      const shown = this.seen.revision ?? 0;
      const found = await api.reviewRegion(job.id, x, y, view);
      const revision = Math.min(shown, found.revision);
      if (this.job === job && this.active) this.tools.select({ ...found, revision, x, y, view });
    });
  }

  /** Accept the selected region, or give it another class. */
  judge(value = null) {
    const { selected } = this.tools;
    if (!selected) return;
    this.tools.select(null);
    const { run, revision, x, y, view } = selected; // what others have said since then may have made it another region
    this.edit('region', { run, revision, x, y, view, value });
  }

  paint(points, radius_um, value) {
    return this.edit('stroke', { points, radius_um, value });
  }

  undo() {
    this.tools.select(null);
    return this.edit('undo', {});
  }

  redo() {
    this.tools.select(null);
    return this.edit('redo', {});
  }

  /** Send an edit when those before it have been answered, also of a result that is not shown any more by then. */
  edit(what, body) {
    const { job, seen } = this;
    if (!job) return this.waiting; // nothing to judge is shown
    const queued = this.unanswered.get(job.id) ?? { seen, count: 0 };
    this.unanswered.set(job.id, queued);
    Object.assign(queued, { seen, count: queued.count + 1 });
    this.waiting = this.waiting.then(() =>
      this.attempt(async () => {
        if (!seen.run) Object.assign(seen, said(await api.review(job.id, 0))); // said before that was told
        const answer = await api.reviewEdit(job.id, what, { ...seen, ...body });
        Object.assign(seen, said(answer));
        this.take(job, answer);
      }),
    );
    const settled = this.waiting.then(() => (queued.count -= 1) || this.unanswered.delete(job.id));
    return this.underWay.hold(settled);
  }

  async attempt(act) {
    this.busy = (this.busy ?? 0) + 1;
    try {
      await act();
    } catch (error) {
      this.onTrouble(error);
      if (error.status === 409) await this.refresh(true);
    } finally {
      this.busy -= 1;
    }
  }

  /** What tests and curious people may look at. */
  get probe() {
    const { status, active, busy, tools } = this;
    const { value, cut } = tools.selected ?? {};
    return { active, busy: Boolean(busy), revision: status?.revision ?? null, words: status?.words ?? '', selected: tools.selected && { value, cut }, tool: tools.tool, value: tools.value };
  }

  destroy() {
    clearTimeout(this.timer);
    this.underWay.destroy();
    this.tools.destroy();
  }
}

const said = ({ run, revision }) => ({ run, revision });
