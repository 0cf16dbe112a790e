// What the Slides tab takes up when somebody comes back to it: slides, models, results of the Compare tab or of others.

import { api } from './api.js';

export const LEAST_MS = 5000; // the list of slides is not asked for more often

/** The result that is shown if nobody asks for another: one at work, else the newest with a mask. */
export const firstShown = (jobs) => jobs.find((job) => !job.ended) ?? jobs.find((job) => job.has_mask) ?? jobs[0];

/** Bring a workspace up to date; what is looked at stays. */
export async function lookAgain(of) {
  if (!of.probe.ready) return;
  if (Date.now() - of.listedAt > LEAST_MS) await of.loadSlides();
  await of.loadModels();
  const { slide } = of;
  const { jobs } = slide && of.probe.slideOpen ? await api.jobs(slide.id) : {};
  if (!jobs || of.slide !== slide) return;
  of.jobs = jobs;
  if (of.job) of.panel.render(of);
  else of.showJob(firstShown(jobs));
}
