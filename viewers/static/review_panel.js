// The review in the controls: how much of the result people have judged, and who; tools, classes, files.

import { api } from './api.js';
import { areaText, h, hex, icon, length, moment } from './dom.js';

const TOOLS = [
  ['region', 'Region', 'Click on a region to accept it or give it another class (c)'],
  ['brush', 'Brush', 'Paint with the chosen class (d)'],
  ['eraser', 'Eraser', 'Take back what people have said (x)'],
];
const FILES = [
  ['corrected', 'Mask', 'The mask with the corrections in it, as OME-TIFF'],
  ['areas', 'CSV', 'Table of class areas with the corrections in them'],
  ['corrections', 'GeoJSON', 'The corrections alone, with author, time and kind'],
  ['labels', 'Labels', 'The corrections as a mask to train on; 255 is not reviewed'],
  ['log', 'Log', 'Every edit ever made: who, when, what'],
];

export class ReviewPanel {
  constructor(review) {
    this.review = review;
    const { tools } = review;
    this.button = h('button', { type: 'button', class: 'lpd-secondary lpd-review-button', onclick: () => (review.active ? review.leave() : review.enter()) });
    this.said = h('span', { role: 'status' });
    // Stands with the result, not here: no mask is looked at without it.
    this.words = h('p', { class: 'lpd-review-words', hidden: true }, this.said, h('button', { type: 'button', class: 'lpd-link', title: 'Accept or correct the mask region by region (v)', onclick: () => review.enter() }, 'review it'));
    this.bar = h('progress', { max: 1 });
    this.more = h('p', { class: 'lpd-hint' });
    this.tools = new Map(TOOLS.map(([name, text, title]) => [name, h('button', { type: 'button', title, onclick: () => tools.use(name) }, text)]));
    this.classes = h('div', { class: 'lpd-review-classes' });
    this.hint = h('p', { class: 'lpd-hint', 'aria-live': 'polite' });
    this.accept = h('button', { type: 'button', class: 'lpd-secondary', title: 'The region has the right class (a)', onclick: () => review.judge() }, 'Accept');
    this.undo = h('button', { type: 'button', class: 'lpd-secondary', title: 'Take back your last edit (Ctrl+Z)', onclick: () => review.undo() }, 'Undo');
    this.redo = h('button', { type: 'button', class: 'lpd-secondary', title: 'Bring back what you took back last (Ctrl+Shift+Z, Ctrl+Y)', onclick: () => review.redo() }, 'Redo');
    this.size = h('input', { type: 'range', min: 0, max: 1, step: 0.01, 'aria-label': 'Diameter of brush and eraser' });
    this.size.addEventListener('input', () => {
      tools.diameter = 10 * 200 ** this.size.valueAsNumber; // 10 µm to 2 mm
      tools.changed();
    });
    this.sizeText = h('output');
    this.sizeRow = h('label', { class: 'lpd-review-size', title: 'Diameter of brush and eraser ([ and ])' }, h('span', {}, 'Size'), this.size, this.sizeText);
    this.work = h(
      'div',
      { class: 'lpd-review-work' },
      h('div', { class: 'lpd-review-tools', role: 'toolbar', 'aria-label': 'Review' }, ...this.tools.values()),
      this.sizeRow,
      this.classes,
      this.hint,
      h('div', { class: 'lpd-shape-acts' }, this.accept, this.undo, this.redo),
    );
    this.files = h('div', { class: 'lpd-downloads' });
    this.element = h('section', { class: 'lpd-review', hidden: true }, h('header', {}, h('h3', {}, 'Review'), this.button), this.bar, this.more, this.work, this.files);
  }

  render() {
    const { job, status, active } = this.review;
    this.element.hidden = this.words.hidden = !job || !status;
    if (this.element.hidden) return;
    this.button.textContent = active ? 'Done' : 'Review';
    this.button.title = active ? 'Leave the review (v, Esc)' : 'Accept or correct the mask region by region (v)';
    this.renderStatus(status);
    this.work.hidden = !active;
    this.words.lastChild.hidden = active;
    if (active) this.renderWork();
    this.renderFiles(job, status);
  }

  renderStatus({ authors, share, reviewed_mm2: reviewed, changed_mm2: changed, earlier }) {
    const some = authors.length > 0;
    this.words.classList.toggle('lpd-caution', !some || share < 1);
    const percent = share >= 1 ? '100' : Math.min(99.9, 100 * share).toFixed(1); // all of it is not said before it is so
    this.said.textContent = some ? (share >= 1 ? 'Reviewed' : `Partly reviewed: ${percent} % of the tissue`) : 'Not reviewed by a person';
    this.bar.hidden = !some;
    this.bar.value = share;
    const names = authors.slice(0, 3).map(({ name, last }) => `${name === 'local' ? 'you or others here' : name} (${moment(Date.parse(last) / 1000)})`);
    if (authors.length > 3) names.push(`${authors.length - 3} more`);
    const told = some ? [`${areaText(reviewed)} reviewed, ${areaText(changed)} changed; by ${names.join(', ')}.`] : [];
    if (earlier) told.push('An earlier mask of this result was reviewed, too; that review is kept in its folder and does not count here.');
    this.more.textContent = told.join(' ');
    this.more.hidden = !told.length;
  }

  /** Bring the tools into view. */
  reveal() {
    this.element.scrollIntoView({ block: 'nearest' });
  }

  renderWork() {
    const { review } = this;
    const { tools } = review;
    for (const [name, element] of this.tools) element.setAttribute('aria-pressed', name === tools.tool);
    this.sizeRow.hidden = tools.tool === 'region';
    this.size.value = Math.log(tools.diameter / 10) / Math.log(200);
    this.sizeText.textContent = length(tools.diameter);
    this.renderClasses();
    this.hint.textContent = this.advice(tools);
    this.accept.hidden = tools.tool !== 'region';
    this.accept.disabled = !tools.selected;
    this.undo.disabled = !review.status.mine;
    this.redo.disabled = !review.status.undone;
  }

  renderClasses() {
    const { tools, classes, layers } = this.review;
    this.classes.hidden = tools.tool === 'eraser';
    const chosen = tools.tool === 'brush' ? tools.value : tools.selected?.value;
    const key = JSON.stringify([classes, layers.reviewColors, chosen, tools.tool]);
    if (this.shows === key) return;
    this.shows = key;
    this.classes.replaceChildren(
      ...classes.map((entry, value) => {
        const square = h('i', { class: 'lpd-square' });
        square.style.background = hex(layers.reviewColors[value]);
        const title = tools.tool === 'brush' ? `Paint ${entry.name} (${value + 1})` : `This is ${entry.name} (${value + 1})`;
        return h('button', { type: 'button', title, 'aria-pressed': String(value === chosen), onclick: () => tools.choose(value) }, square, h('span', {}, entry.name), value < 9 && h('kbd', {}, String(value + 1)));
      }),
    );
  }

  advice({ tool, selected }) {
    if (tool === 'brush') return 'Drag over the slide to paint; the arrow keys move the slide.';
    if (tool === 'eraser') return 'Drag over corrections to take them back.';
    if (!selected) return 'Click on a region of the mask.';
    const name = this.review.classes[selected.value]?.name;
    return `${name}, ${areaText(selected.area_mm2)}${selected.cut ? ', cut off at the edge of the view' : ''}: accept it (a), or choose what it is.`;
  }

  renderFiles(job, { revision }) {
    const key = `${job.id} ${revision > 0}`;
    if (this.filesOf === key) return;
    this.filesOf = key;
    const links = FILES.map(([kind, name, title]) => h('a', { href: api.reviewFile(job.id, kind), title, download: '', class: 'lpd-download', 'data-review': kind }, name));
    this.files.replaceChildren(...(revision ? [icon('download'), ...links] : []));
  }
}
