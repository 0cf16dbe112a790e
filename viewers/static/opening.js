// Opening a slide and a result over it, and waiting for a slide that has to be made ready first.

import { api, memory } from './api.js';
import { h } from './dom.js';
import { firstShown } from './look_again.js';
import { restore } from './view_address.js';

const PREPARING_MS = 700; // between looks at how far a slide is that is made ready

export class Opening {
  /** `of` is the workspace; whatever was chosen last is what opens. */
  constructor(of) {
    this.of = of;
    this.wanted = null; // id of the slide that was chosen last
    this.under = null; // id of the one that is being opened
  }

  /** Open a slide. One that is shown as it is, or is being opened, stays: whoever works on it is not interrupted. */
  async open(id, result) {
    if (!result && this.wanted === id && (this.under === id || this.isShown(id))) return;
    this.under = id;
    try {
      await this.anew(id, result);
    } finally {
      if (this.under === id) this.under = null;
    }
  }

  isShown(id) {
    const { slide, slides, probe } = this.of;
    const listed = slides.find((known) => known.id === id);
    return probe.slideOpen && slide?.id === id && listed?.fingerprint === slide.fingerprint;
  }

  /** Show the slide anew if its file is another one by now: what is drawn or said would be of the one that is gone. */
  async follow() {
    const { slide, slides, probe } = this.of;
    const listed = slides.find((known) => known.id === slide?.id);
    if (!probe.slideOpen || listed?.status !== 'ok' || listed.fingerprint === slide.fingerprint) return;
    this.of.toast(`${listed.name} has been replaced: this is the new file.`, 'info');
    await this.open(listed.id);
  }

  async anew(id, result) {
    const { of } = this;
    of.probe.slideOpen = false;
    this.wanted = id;
    const slide = { ...of.slides.find((known) => known.id === id), ...(await this.prepared(id)) };
    if (this.wanted !== id) return; // another slide was chosen meanwhile
    Object.assign(of, { slide, jobs: [], empty: false });
    of.list.select(id);
    memory.set('slide', id);
    of.showJob(null);
    of.panel.model = slide.suggested_checkpoint;
    of.panel.render(of);
    const [{ jobs }] = await Promise.all([api.jobs(id), of.view.open(slide), of.attempt(() => of.drawing.open(slide))]);
    if (this.wanted !== id) return;
    of.jobs = jobs;
    of.layers.open(slide);
    this.show(of.link.take(id), result);
    of.probe.slideOpen = true;
  }

  /** Show the result that was asked for, by a click or by the address, and what else the address says. */
  show(asked, result) {
    const { of } = this;
    const wanted = result ?? asked.result;
    const found = of.jobs.find((job) => job.id === wanted);
    if (asked.result && !found) of.toast('The result in the address is not in the results folder any more.');
    of.showJob(found ?? firstShown(of.jobs));
    restore(of, asked);
  }

  /** What a slide says of itself once it can be shown; people see what it waits for. */
  async prepared(id) {
    const { of } = this;
    while (this.wanted === id && of.root.isConnected) {
      try {
        return await api.slide(id);
      } catch (error) {
        if (error.done === undefined) {
          if (!of.slide && this.wanted === id) of.view.close([h('strong', {}, 'This slide cannot be shown'), h('span', {}, error.message)]);
          throw error;
        }
        if (this.wanted === id) this.waitFor(id, error);
        await new Promise((resolve) => setTimeout(resolve, PREPARING_MS));
      }
    }
    return null;
  }

  waitFor(id, { message, done }) {
    const { of } = this;
    if (of.slide) {
      Object.assign(of, { slide: null, jobs: [] });
      of.showJob(null);
      of.drawing.close();
    }
    of.list.select(id);
    of.view.close([h('strong', {}, 'Getting the slide ready'), h('span', { role: 'status' }, message), h('progress', { max: 1, value: done })]);
  }
}
