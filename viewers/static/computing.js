// Having something segmented: the slide, the view, or a region; once for each time that somebody asks.

import { api } from './api.js';

/** What is said where a request is not computed from the start, see viewers/asked_before.py. */
const FOUND = {
  there: (job) => (job.ended ? 'This has been segmented with this model before: here is the result.' : 'This is being segmented already.'),
  'going on': () => 'The segmentation that had not come to its end goes on from there.',
};

export class Computing {
  constructor(of) {
    this.of = of; // the workspace
  }

  async segment(what) {
    const { slide, panel, view } = this.of;
    const request = { slide: slide.id, checkpoint: panel.model, device: panel.device };
    if (what === 'view') request.region = view.region();
    if (what.geometry) request.polygons = what.geometry.type === 'Polygon' ? [what.geometry.coordinates] : what.geometry.coordinates;
    await this.compute(request);
  }

  /** Have a request computed, or show what was computed for the same one before. */
  async compute(request) {
    const { of } = this;
    const job = await this.startOnce(request);
    of.followOthers();
    if (job?.slide_id !== of.slide.id) return; // another slide was chosen meanwhile
    of.jobs = [job, ...of.jobs.filter((known) => known.id !== job.id)];
    of.layers.on.mask = true;
    of.showJob(job);
    if (FOUND[job.found]) {
      const anew = { name: 'Compute anew', act: () => of.attempt(() => this.compute({ ...request, anew: true })) };
      of.toast(FOUND[job.found](job), 'info', job.ended ? anew : null);
    }
  }

  /** Start a job; nothing while another start has not been answered, so that a double click asks once. */
  async startOnce(request) {
    const { of } = this;
    if (of.starting) return null;
    of.starting = true;
    of.panel.render(of);
    try {
      return await api.start(request);
    } finally {
      of.starting = false;
      of.panel.render(of);
    }
  }

  async cancel({ id }) {
    const { of } = this;
    const job = await api.cancel(id);
    if (job.id === of.job?.id) of.onState(job);
    of.followOthers();
  }
}
