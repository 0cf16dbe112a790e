// The controls on the right: the slide's facts, the question about its resolution, the model, the one button, the result.

import { address, api, memory } from './api.js';
import { count, duration, h, icon, trim } from './dom.js';
import { place } from './job_list.js';
import { Legend } from './legend.js';
import { ResultList } from './result_list.js';

const DEVICES = { auto: 'Automatic', cpu: 'Processor (CPU)', cuda: 'NVIDIA GPU', mps: 'Apple GPU' };
const DOWNLOADS = [
  ['geojson', 'QuPath', 'GeoJSON annotations for QuPath'],
  ['ome-tiff', 'TIFF', 'Label mask as pyramidal OME-TIFF'],
  ['csv', 'CSV', 'Table of class areas as the model made them'],
  ['png', 'PNG', 'Picture of the slide with the mask and a legend'],
];
const LOST = 'The app does not answer; trying again …';
/** µm per pixel between which scans of tissue lie. */
const [FINEST, COARSEST] = [0.05, 4];
const SCANS = [['20× scan', 0.5], ['40× scan', 0.25]];

/** What makes a size of one pixel that somebody entered unlikely; empty if nothing does. */
function doubtOf(mpp) {
  if (mpp > COARSEST) return `${trim(mpp)} µm per pixel is coarser than any scan that shows cells. If ${trim(mpp)} is the magnification, a 20× scan has 0.5 and a 40× scan 0.25.`;
  return mpp < FINEST ? `${trim(mpp)} µm per pixel is finer than light shows: a 40× scan has 0.25.` : '';
}

export class Panel {
  constructor(acts) {
    this.acts = acts;
    this.facts = h('section', { class: 'lpd-facts' });
    this.question = this.buildQuestion();
    this.run = this.buildRun();
    this.work = h('section', { class: 'lpd-work', hidden: true });
    this.legend = new Legend({ onColour: acts.colour });
    this.result = this.buildResult();
    this.element = h('aside', { class: 'lpd-panel', 'aria-label': 'Controls' }, this.facts, this.question, this.run, this.work, this.result);
  }

  /** Take in another part, behind one of the sections, else as the last. */
  adopt(part, after = this.element.lastChild) {
    this.parts = [...(this.parts ?? []), part];
    after.after(part.element);
  }

  /** Show something right below what the result is. */
  addNote(element) {
    this.about.after(element);
  }

  get model() {
    return this.models.value || null;
  }

  set model(name) {
    this.suggested = name;
    this.modelsShown = null;
  }

  get device() {
    return this.devices.value;
  }

  buildQuestion() {
    this.mpp = h('input', { type: 'number', min: 0.01, max: 100, step: 'any', placeholder: 'e.g. 0.5', 'aria-label': 'µm per pixel', required: true });
    const form = h(
      'form',
      { class: 'lpd-mpp-form' },
      this.mpp,
      h('span', {}, 'µm per pixel'),
      h('button', { type: 'submit', title: 'Measure and segment this slide with this size from now on' }, 'Use'),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.editing = false;
      this.acts.setMpp(this.mpp.valueAsNumber);
    });
    const hints = SCANS.map(([name, value]) =>
      h('button', { type: 'button', class: 'lpd-chip', title: `Write ${value} into the field, usual for a ${name}`, onclick: () => (this.mpp.value = value) }, `${name}: ${value}`),
    );
    this.ask = h('p', { class: 'lpd-ask' });
    return h('section', { class: 'lpd-question', hidden: true }, this.ask, form, h('div', { class: 'lpd-hints' }, hints));
  }

  buildRun() {
    this.models = h('select', { id: 'lpd-model', onchange: () => (this.showModel(), this.acts.chooseModel()) });
    this.devices = h('select', { id: 'lpd-device', onchange: () => memory.set('device', this.devices.value) });
    for (const [value, name] of Object.entries(DEVICES)) this.devices.append(h('option', { value }, name));
    this.devices.value = memory.get('device', 'auto') in DEVICES ? memory.get('device', 'auto') : 'auto';
    this.notice = h('p', { class: 'lpd-notice', hidden: true });
    this.slideButton = h('button', { type: 'button', class: 'lpd-primary', title: 'Segment the whole slide with this model; the mask grows over it, and the page may be closed meanwhile', onclick: () => this.acts.segment('slide') }, 'Segment slide');
    this.viewButton = h('button', { type: 'button', class: 'lpd-secondary', title: 'Segment only the part of the slide that is on screen', onclick: () => this.acts.segment('view') }, 'Segment view');
    this.hint = h('p', { class: 'lpd-hint', hidden: true });
    return h(
      'section',
      { class: 'lpd-run' },
      h('div', { class: 'lpd-field' }, h('label', { htmlFor: 'lpd-model' }, 'Model'), this.models),
      this.notice,
      h('div', { class: 'lpd-field' }, h('label', { htmlFor: 'lpd-device' }, 'Run on'), this.devices),
      h('div', { class: 'lpd-buttons' }, this.slideButton, this.viewButton),
      this.hint,
    );
  }

  buildResult() {
    this.results = new ResultList((id) => this.acts.chooseJob(id));
    this.about = h('p', { class: 'lpd-about' });
    this.downloads = h('div', { class: 'lpd-downloads' });
    return h('section', { class: 'lpd-result', hidden: true }, h('h3', {}, 'Result'), this.results.element, this.about, this.legend.element, this.downloads);
  }

  render(state) {
    this.renderFacts(state.slide);
    this.renderQuestion(state.slide);
    this.renderRun(state);
    this.renderWork(state.job);
    this.renderResult(state);
    for (const part of this.parts ?? []) part.render(state);
  }

  renderFacts(slide) {
    this.facts.hidden = !slide;
    if (!slide || this.factsOf === slide) return;
    this.factsOf = slide;
    const extent = slide.mpp && `${trim((slide.width * slide.mpp) / 1000)} × ${trim((slide.height * slide.mpp) / 1000)} mm`;
    const rows = [
      ['Size', `${count(slide.width)} × ${count(slide.height)} px`, extent && h('span', { class: 'lpd-origin' }, extent)],
      ['Resolution', slide.mpp ? `${trim(slide.mpp)} µm/px` : 'unknown', slide.mpp ? this.origin(slide) : null],
    ];
    const doubt = slide.mpp_origin === 'given' && doubtOf(slide.mpp);
    const list = h('dl', {}, rows.map(([name, value, extra]) => [h('dt', {}, name), h('dd', {}, value, extra)]));
    const synthetic = slide.synthetic && h('p', { class: 'lpd-caution' }, 'Synthetic: drawn by a program, not tissue.');
    this.facts.replaceChildren(h('h2', { title: slide.relative }, slide.name), ...(synthetic ? [synthetic] : []), list, ...(doubt ? [h('p', { class: 'lpd-caution', role: 'status' }, doubt)] : []), this.details(slide));
  }

  origin(slide) {
    const given = slide.mpp_origin === 'given';
    const change = () => {
      this.editing = true;
      this.mpp.value = trim(slide.mpp);
      this.renderQuestion(slide);
      this.mpp.focus();
    };
    return h('span', { class: 'lpd-origin' }, given ? 'entered by you' : `from ${slide.mpp_origin}`, h('button', { type: 'button', class: 'lpd-link', title: 'Enter another size of one pixel', onclick: change }, 'change'));
  }

  details(slide) {
    const objective = slide.objective && `${slide.objective}×`;
    const told = { objective, format: slide.vendor, file: slide.relative, ...slide.properties };
    const rows = Object.entries(told).filter(([, value]) => value);
    const pictures = labelPictures(slide);
    const table = h('div', { class: 'lpd-properties' }, rows.map(([name, value]) => h('div', { title: `${name}: ${value}` }, h('b', {}, name), h('span', {}, value))));
    return h('details', {}, h('summary', {}, 'All details'), pictures, table);
  }

  renderQuestion(slide) {
    const missing = slide && !slide.mpp;
    this.question.hidden = !(missing || (slide && this.editing));
    this.question.classList.toggle('lpd-missing', Boolean(missing));
    this.ask.textContent = missing
      ? 'This slide does not say its resolution. How large is one pixel? Areas and the model depend on it.'
      : 'How large is one pixel of this slide?';
    if (this.askedOf !== slide?.id) {
      this.askedOf = slide?.id;
      this.editing = false;
      this.mpp.value = '';
      this.question.hidden = !missing;
    }
  }

  renderRun(state) {
    this.showModels(state);
    const running = state.job && !state.job.ended;
    this.run.hidden = Boolean(running);
    const usable = state.models.some((model) => !model.error);
    const reason = !state.slide
      ? 'Choose a slide first.'
      : !usable
        ? `No usable model: publish one in Train, or put a checkpoint into ${state.modelFolder}.`
        : !state.slide.mpp
          ? 'Enter the size of one pixel first.'
          : '';
    this.slideButton.disabled = this.viewButton.disabled = Boolean(reason) || Boolean(state.starting);
    this.hint.hidden = !reason;
    this.hint.textContent = reason;
  }

  showModels(state) {
    if (this.modelsShown === state.models) return;
    const kept = this.modelsShown && this.models.value; // another slide makes another suggestion; a longer list does not
    this.modelsShown = state.models;
    this.known = state.models;
    this.models.replaceChildren(
      ...state.models.map((model) => h('option', { value: model.error ? '' : model.name, disabled: Boolean(model.error), title: model.error ?? '' }, model.error ? `${model.name} – cannot be used` : model.name)),
    );
    const chosen = [kept, this.suggested].find((name) => name && state.models.some((model) => model.name === name && !model.error));
    if (chosen) this.models.value = chosen;
    this.showModel();
  }

  showModel() {
    const model = this.known.find((one) => one.name === this.models.value);
    this.models.title = model?.name ?? '';
    const bad = this.known.filter((one) => one.error);
    this.notice.hidden = !model?.notice && !bad.length;
    this.notice.replaceChildren(
      ...(model?.notice ? [h('span', {}, model.notice)] : []),
      ...bad.map((one) => h('span', { class: 'lpd-bad-model' }, `${one.name}: ${one.error}`)),
    );
  }

  renderWork(job) {
    const shown = job && (!job.ended || ['failed', 'crashed'].includes(job.state));
    this.work.hidden = !shown;
    if (!shown) return;
    this.work.classList.toggle('lpd-failed', job.ended);
    if (job.ended) this.work.replaceChildren(h('strong', {}, job.state === 'failed' ? 'Segmentation failed' : 'Segmentation ended unexpectedly'), h('p', {}, job.message));
    else this.renderProgress(job);
  }

  renderProgress(job) {
    if (this.progressOf !== job.id || !this.bar?.isConnected) {
      this.progressOf = job.id;
      this.title = h('strong');
      this.percent = h('span', { class: 'lpd-percent' });
      this.bar = h('progress', { max: 1 });
      this.pace = h('p', { class: 'lpd-pace' });
      this.cancelButton = h('button', { type: 'button', class: 'lpd-secondary', onclick: () => this.acts.cancel() }, 'Cancel');
      this.work.replaceChildren(h('header', {}, this.title, this.percent), this.bar, this.pace, this.cancelButton);
    }
    const { done, total, unit, rate, eta_s: eta } = job.progress;
    const stopping = job.message.startsWith('Stopping');
    const line = place(job);
    this.title.textContent = stopping ? 'Stopping' : line ? `Waiting, ${line}` : job.state === 'queued' && job.message !== 'Starting …' ? 'Waiting for another job' : total ? 'Segmenting' : 'Starting';
    this.percent.textContent = total ? `${Math.floor((100 * done) / total)} %` : '';
    if (total) this.bar.value = done / total;
    else this.bar.removeAttribute('value');
    const parts = [
      total && `${count(done)} of ${count(total)} ${unit}`,
      rate && `${trim(rate)} ${unit}/s`,
      eta && eta > 0.5 && `${duration(eta)} left`,
    ].filter(Boolean);
    const pace = job.message || parts.join(' · ') || ' ';
    this.pace.textContent = this.isLost ? LOST : pace[0].toUpperCase() + pace.slice(1);
    const mine = this.acts.mayCancel(job);
    this.cancelButton.disabled = stopping || !mine;
    this.cancelButton.title = mine ? 'Stop; what is computed so far is kept' : `${job.user || 'Somebody else'} started this: ask them to cancel it`;
  }

  lost(lost) {
    this.isLost = lost;
    if (lost && this.pace) this.pace.textContent = LOST;
  }

  renderResult(state) {
    const { job, jobs } = state;
    this.result.hidden = !jobs.length || !job;
    if (this.result.hidden) return;
    this.results.render(jobs, job);
    const said = !this.run.hidden && this.notice.textContent.includes(job.notice); // once on the page is enough
    this.about.replaceChildren(said ? '' : h('span', { class: 'lpd-caution' }, job.notice));
    if (job.ended && job.state === 'done' && job.message) this.about.append(h('span', { class: 'lpd-caution' }, job.message));
    this.legend.render(state);
    this.renderDownloads(job, state.figures.whose);
  }

  /** Files of the result as the model made it, which is said once people have changed it. */
  renderDownloads(job, whose) {
    const key = `${job.id} ${job.downloads.join()} ${whose}`;
    if (this.downloadsOf === key) return;
    this.downloadsOf = key;
    const links = DOWNLOADS.filter(([kind]) => job.downloads.includes(kind)).map(([kind, name, title]) =>
      h('a', { href: api.download(job.id, kind), title, download: '', class: 'lpd-download', 'data-kind': kind }, name),
    );
    this.downloads.replaceChildren(...(links.length ? [icon('download'), whose && h('span', { title: 'Files with the corrections are below, under Review' }, 'Model’s own'), ...links].filter(Boolean) : []));
  }
}

/** Label and macro: fetched only when somebody opens them, for they may name the patient. */
function labelPictures(slide) {
  const names = slide.pictures ?? [];
  const place = h('div', { class: 'lpd-pictures' });
  const hint = 'These pictures may show names or numbers of the patient';
  const details = h('details', { class: 'lpd-labels', hidden: !names.length }, h('summary', { title: hint }, 'Label and macro (may name the patient)'), place);
  details.addEventListener('toggle', () => {
    if (details.open && !place.childElementCount) place.append(...names.map((name) => h('figure', {}, h('img', { src: address(`/slides/${slide.id}/picture/${name}?f=${slide.fingerprint}`), alt: name }), h('figcaption', {}, name))));
  });
  return details;
}
