// The prototypes of one class on both sides: pairs that do the same stand in one row.

import { h, hex } from './dom.js';

const EMPTY = '–';

export class PrototypePicker {
  constructor({ onClass, onPick }) {
    this.onClass = onClass;
    this.onPick = onPick;
    this.classes = h('div', { class: 'lpd-chips', role: 'group', 'aria-label': 'Class' });
    this.rows = h('div', { class: 'lpd-prototype-rows' });
    this.said = h('p', { class: 'lpd-hint' });
    this.element = h('section', { class: 'lpd-picker' }, h('h3', {}, 'Prototypes'), this.classes, this.rows, this.said);
  }

  render(state) {
    this.renderClasses(state);
    this.renderRows(state);
  }

  renderClasses({ sides, code }) {
    const entries = new Map(sides.flatMap((side) => side.classes.map((entry) => [entry.code, entry])));
    this.classes.replaceChildren(
      ...[...entries.values()].map((entry) => {
        const chip = h('button', { type: 'button', class: 'lpd-class-chip', 'aria-pressed': String(entry.code === code), 'data-class': entry.code, title: entry.name, onclick: () => this.onClass(entry.code) }, h('i'), entry.code);
        chip.firstChild.style.background = hex(entry.color);
        return chip;
      }),
    );
    this.element.hidden = !entries.size;
  }

  renderRows({ sides, code, pairs, matching }) {
    const [left, right] = sides;
    const [own, others] = sides.map((side) => side.own);
    const matched = code === null ? null : matching;
    const lone = (list, side) => list.filter((index) => !pairs.some((pair) => pair[side] === index));
    const rows = pairs.length
      ? [...pairs.map(([one, two, r]) => [one, two, r]), ...lone(own, 0).map((index) => [index, null, null]), ...lone(others, 1).map((index) => [null, index, null])]
      : Array.from({ length: Math.max(own.length, others.length) }, (_, i) => [own[i] ?? null, others[i] ?? null, null]);
    const before = document.activeElement?.dataset?.prototype;
    this.rows.replaceChildren(...rows.map(([one, two, r]) => h('div', { class: 'lpd-prototype-row' }, this.button(left, one), this.link(r, matched, one, two), this.button(right, two))));
    if (before) this.rows.querySelector(`[data-prototype="${before}"]`)?.focus(); // it was drawn anew under the finger
    this.said.textContent = this.words(sides, own, others, pairs, matched, code);
  }

  button(side, index) {
    if (index === null) return h('span', { class: 'lpd-prototype lpd-none' }, EMPTY);
    const chosen = side.index === index;
    const muted = side.edits.muted.includes(index) || side.about.uncounted.includes(index);
    return h('button', { type: 'button', class: `lpd-prototype${muted ? ' lpd-muted' : ''}`, 'aria-pressed': String(chosen), 'data-prototype': `${side.name}-${index}`, title: `${side.plainName(index)}${muted ? ', muted' : ''}: show its map`, onclick: () => this.onPick(side, index) }, side.nameOf(index));
  }

  link(r, matching, one, two) {
    if (one !== null && two !== null && matching) return h('span', { class: 'lpd-match', title: 'Correlation of the two maps over the tissue of this slide' }, r === null ? '' : `r ${r.toFixed(2)}`);
    return h('span', { class: 'lpd-match' }, matching && (one === null) !== (two === null) ? 'alone' : '');
  }

  words([left, right], own, others, pairs, matching, code) {
    if (left.about && !own.length) return `The left model has no class ${left.code}.`;
    if (right.about && !others.length) return `The right model has no class ${right.code}.`;
    if (left.about && right.about && code === null) return 'Two classes, so nothing is matched; choose one above to have both sides at it.';
    if (matching && pairs.length) return 'Each row: two prototypes whose maps over this slide are most alike.';
    return left.about && right.about ? 'Looking for counterparts …' : '';
  }
}
