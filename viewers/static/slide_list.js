// The list of slides on the left. Only the rows in sight exist, so that 5,000 slides are as light as five.

import { memory } from './api.js';
import { count, h } from './dom.js';
import { SORTS, arrange } from './slide_order.js';
import { folderRow, showPicture, slideRow } from './slide_row.js';

const ROW_PX = 78;
const FOLDER_PX = 30;
const BEYOND_PX = 300; // drawn above and below what is in sight
const STAY_MS = 90; // a row in sight for so long gets its picture
const TYPING_MS = 60;

export class SlideList {
  constructor(onPick, onBad = () => undefined, extras = []) {
    Object.assign(this, { onPick, onBad, slides: [], lines: [], tops: [0], rows: new Map(), jobs: new Map(), selected: null, active: null });
    this.closed = new Set(memory.get('closed-folders', []));
    this.search = h('input', { type: 'search', placeholder: 'Search', 'aria-label': 'Search slides', title: 'Search names, folders, formats and models' });
    this.search.addEventListener('input', () => this.soon());
    this.sort = h('select', { 'aria-label': 'Sort by', title: 'Sort the slides' }, Object.entries(SORTS).map(([value, name]) => h('option', { value }, name)));
    this.sort.value = memory.get('sort', 'name') in SORTS ? memory.get('sort', 'name') : 'name';
    this.sort.addEventListener('change', () => this.resort(false));
    this.turn = h('button', { type: 'button', class: 'lpd-turn', title: 'Turn the order round', 'aria-label': 'Turn the order round', onclick: () => this.resort(!this.down) }, '↓');
    this.space = h('div', { class: 'lpd-space' });
    this.cards = h('div', { class: 'lpd-cards', tabIndex: 0, role: 'tree', 'aria-label': 'Slides' }, this.space);
    this.nothing = h('p', { class: 'lpd-nothing', hidden: true });
    this.number = h('span', { class: 'lpd-count' });
    const header = h('header', {}, h('h2', {}, 'Slides'), this.number, h('span', { class: 'lpd-extras' }, extras));
    this.element = h('nav', { class: 'lpd-rail', 'aria-label': 'Slides' }, header, h('div', { class: 'lpd-seek' }, this.search, this.sort, this.turn), this.nothing, this.cards);
    this.cards.addEventListener('scroll', () => this.draw(), { passive: true });
    this.cards.addEventListener('click', (event) => this.click(event));
    this.cards.addEventListener('keydown', (event) => this.press(event));
    this.size = new ResizeObserver(() => this.draw());
    this.size.observe(this.cards);
  }

  render(slides, selected) {
    this.slides = slides;
    this.selected = selected ?? this.selected;
    this.arrange();
  }

  soon() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => {
      this.cards.scrollTop = 0;
      this.arrange();
    }, TYPING_MS);
  }

  resort(down) {
    this.down = down;
    this.turn.textContent = down ? '↑' : '↓';
    memory.set('sort', this.sort.value);
    this.arrange();
  }

  arrange() {
    const { slides, closed } = this;
    const { lines, found } = arrange(slides, { search: this.search.value, sort: this.sort.value, down: this.down, closed });
    this.lines = lines;
    this.tops = new Float64Array(lines.length + 1);
    lines.forEach((line, i) => (this.tops[i + 1] = this.tops[i] + (line.slide ? ROW_PX : FOLDER_PX)));
    this.space.style.height = `${this.tops[lines.length]}px`;
    this.number.textContent = !slides.length ? '' : found === slides.length ? count(found) : `${count(found)} of ${count(slides.length)}`;
    this.nothing.hidden = found > 0 || !slides.length;
    this.nothing.textContent = 'No slide fits what is searched for.';
    this.draw();
  }

  /** Bring the rows in sight up to date; others are taken away. */
  draw() {
    const { scrollTop, clientHeight } = this.cards;
    const [first, last] = [this.lineAt(scrollTop - BEYOND_PX), this.lineAt(scrollTop + clientHeight + BEYOND_PX)];
    const before = this.rows;
    this.rows = new Map();
    for (let i = first; i <= last && i < this.lines.length; i += 1) {
      const line = this.lines[i];
      const key = keyOf(line);
      let row = before.get(key);
      if (!row || (line.slide ? row.of !== line.slide : row.of.count !== line.count || row.of.closed !== line.closed)) row = this.make(line, key);
      else before.delete(key);
      row.element.style.top = `${this.tops[i]}px`;
      row.element.setAttribute('aria-posinset', i + 1);
      row.element.setAttribute('aria-setsize', this.lines.length);
      this.rows.set(key, row);
    }
    for (const row of before.values()) row.element.remove();
    this.mark();
    clearTimeout(this.staying);
    this.staying = setTimeout(() => this.rows.forEach((row) => showPicture(row.element)), STAY_MS);
  }

  make(line, key) {
    const element = line.slide ? slideRow(line.slide) : folderRow(line);
    element.id = `lpd-row-${key}`;
    this.space.append(element);
    if (line.slide) this.showBadge(element, line.slide.id);
    return { element, of: line.slide ?? line };
  }

  /** The line at a height, by halving. */
  lineAt(y) {
    let [low, high] = [0, this.lines.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  mark() {
    for (const [key, { element }] of this.rows) {
      const chosen = Boolean(this.selected) && element.dataset.id === this.selected;
      element.setAttribute('aria-current', chosen);
      element.classList.toggle('lpd-active', key === this.active);
    }
    const active = this.rows.get(this.active)?.element.id;
    if (active) this.cards.setAttribute('aria-activedescendant', active);
    else this.cards.removeAttribute('aria-activedescendant');
  }

  select(id) {
    this.selected = id;
    this.active = id;
    this.show(this.lines.findIndex((line) => line.slide?.id === id));
  }

  /** Bring a line into sight. */
  show(index) {
    if (index >= 0) {
      const { scrollTop, clientHeight } = this.cards;
      if (this.tops[index] < scrollTop) this.cards.scrollTop = this.tops[index];
      else if (this.tops[index + 1] > scrollTop + clientHeight) this.cards.scrollTop = this.tops[index + 1] - clientHeight;
    }
    this.draw();
  }

  click(event) {
    const row = event.target.closest?.('.lpd-card, .lpd-folder');
    if (!row) return;
    this.active = row.id.slice('lpd-row-'.length);
    this.use(this.lines.find((line) => keyOf(line) === this.active));
  }

  use(line) {
    if (!line) return;
    if (!line.slide) this.fold(line, !line.closed);
    else if (line.slide.status === 'error') this.onBad(line.slide);
    else this.onPick(line.slide.id);
    this.mark();
  }

  fold(line, closed) {
    if (closed) this.closed.add(line.folder);
    else this.closed.delete(line.folder);
    memory.set('closed-folders', [...this.closed]);
    this.arrange();
  }

  /** Arrows move in the list, Enter opens; none of these keys moves the slide as well. */
  press(event) {
    const at = this.lines.findIndex((line) => keyOf(line) === this.active);
    const page = Math.max(1, Math.floor(this.cards.clientHeight / ROW_PX) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.lines.length, End: this.lines.length };
    const line = this.lines[at];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key in steps) {
      const next = Math.min(this.lines.length - 1, Math.max(0, at < 0 ? 0 : at + steps[event.key]));
      this.active = this.lines[next] ? keyOf(this.lines[next]) : null;
      this.show(next);
    } else if (event.key === 'Enter' || event.key === ' ') this.use(line);
    else if ((event.key === 'ArrowLeft' || event.key === 'ArrowRight') && line && !line.slide) this.fold(line, event.key === 'ArrowLeft');
    else if (!event.key.startsWith('Arrow')) return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Show on a slide's picture how far its running job is. */
  badge(id, job) {
    if (job.ended) this.jobs.delete(id);
    else this.jobs.set(id, job.progress);
    const row = this.rows.get(id);
    if (row) this.showBadge(row.element, id);
  }

  showBadge(element, id) {
    const badge = element.querySelector('.lpd-badge');
    const progress = this.jobs.get(id);
    badge.hidden = !progress;
    badge.textContent = progress?.total ? `${Math.floor((100 * progress.done) / progress.total)} %` : '…';
  }

  destroy() {
    this.size.disconnect();
    clearTimeout(this.staying);
    clearTimeout(this.typing);
  }
}

const keyOf = (line) => line.slide?.id ?? `folder ${line.folder}`;

/** The slides, some of them changed or new, some gone. */
export function merged(slides, changed, gone) {
  const known = new Map(slides.map((slide) => [slide.id, slide]));
  for (const id of gone) known.delete(id);
  for (const slide of changed) known.set(slide.id, slide);
  return [...known.values()];
}
