// Labelling in the controls: the label set, its classes with how many tiles show them, tools, and the way to a data set.

import { count, h, hex } from './dom.js';
import { TOOLS } from './label_tools.js';

const TITLES = { tile: 'Click a tile; with Shift several, or those of a drawn region (c)', rectangle: 'Drag a rectangle: all tissue tiles in it (d, or Shift and drag)' };

export class LabelPanel {
  constructor(labels) {
    this.labels = labels;
    const { tools } = labels;
    const back = (act) => (event) => {
      act();
      if (event.detail) labels.view.host.focus({ preventScroll: true }); // by mouse: keys mean the tiles again
    };
    this.back = back;
    this.button = h('button', { type: 'button', class: 'lpd-secondary lpd-review-button', onclick: () => (labels.active ? labels.leave() : labels.enter()) });
    this.hint = h('p', { class: 'lpd-hint' });
    this.choice = h('select', { 'aria-label': 'Label set', onchange: () => labels.choose(this.choice.value).then(() => labels.view.host.focus({ preventScroll: true })) });
    this.newButton = h('button', { type: 'button', class: 'lpd-secondary', title: 'Begin another label set', onclick: () => labels.form.open() }, 'New');
    this.setRow = h('div', { class: 'lpd-label-set' }, this.choice, this.newButton);
    this.about = h('p', { class: 'lpd-hint' });
    this.tools = new Map(Object.entries(TOOLS).map(([name, text]) => [name, h('button', { type: 'button', title: TITLES[name], onclick: back(() => tools.use(name)) }, text)]));
    this.classes = h('div', { class: 'lpd-label-classes', role: 'group', 'aria-label': 'What the selected tiles show' });
    this.next = h('button', { type: 'button', class: 'lpd-primary', title: 'Go on to the next proposed tile (Enter or Space)', onclick: back(() => labels.next()) }, 'Next proposal');
    this.clear = h('button', { type: 'button', class: 'lpd-secondary', title: 'Take the label of the selected tiles back (Delete)', onclick: back(() => labels.clear()) }, 'Clear');
    this.undo = h('button', { type: 'button', class: 'lpd-secondary', title: 'Take back what you said last (Ctrl+Z)', onclick: back(() => labels.undo()) }, 'Undo');
    this.told = h('p', { class: 'lpd-hint' });
    this.work = h(
      'div',
      { class: 'lpd-review-work' },
      h('div', { class: 'lpd-review-tools lpd-label-tools', role: 'toolbar', 'aria-label': 'Labelling' }, ...this.tools.values()),
      this.classes,
      this.next,
      h('div', { class: 'lpd-shape-acts' }, this.clear, this.undo),
    );
    this.element = h('section', { class: 'lpd-labels' }, h('header', {}, h('h3', {}, 'Labels'), this.button), this.hint, this.setRow, labels.form.element, this.about, this.work, this.told, labels.export.element);
  }

  render() {
    const { active, slide, set, status, form } = this.labels;
    this.element.hidden = !slide;
    this.element.closest('.lpd-panel')?.classList.toggle('lpd-labelling', active);
    this.button.textContent = active ? 'Done' : 'Label';
    this.button.title = active ? 'Leave labelling (t, Esc)' : 'Tick which classes tiles show (t)';
    this.button.disabled = !slide?.mpp;
    this.hint.hidden = active;
    this.hint.textContent = slide && !slide.mpp ? 'Enter the size of one pixel first.' : 'Tick what tiles show, and make a data set to train on.';
    this.setRow.hidden = !active || !this.labels.sets.length || form.isOpen;
    form.element.hidden = !active || !form.isOpen;
    const working = active && set && status && !form.isOpen;
    for (const part of [this.about, this.work, this.told]) part.hidden = !working;
    this.labels.export.render(Boolean(working));
    if (!working) return;
    this.renderSets();
    this.renderClasses();
    const { selected } = this.labels;
    for (const [name, button] of this.tools) button.setAttribute('aria-pressed', name === this.labels.tools.tool);
    this.clear.disabled = !selected.some((cell) => this.labels.classesOf(cell));
    this.undo.disabled = !status.mine;
    this.about.textContent = `Tiles of ${Number((set.tile_px * set.mpp).toPrecision(3))} µm (${set.tile_px} px at ${set.mpp} µm/px).`;
    this.told.textContent = this.words(status, set);
  }

  renderSets() {
    const { sets, id } = this.labels;
    const key = JSON.stringify(sets.map((set) => [set.id, set.name, set.error]));
    if (this.setsOf !== key) {
      this.setsOf = key;
      this.choice.replaceChildren(...sets.map((set) => h('option', { value: set.id, disabled: Boolean(set.error), title: set.error ?? '' }, set.error ? `${set.id} – damaged` : set.name)));
    }
    this.choice.value = id;
  }

  renderClasses() {
    const { classes, selected, status } = this.labels;
    const key = JSON.stringify(classes);
    if (this.classesOf !== key) {
      this.classesOf = key;
      const entries = [...classes.map((entry, number) => [entry.name, entry.color, String(number + 1), () => this.labels.toggle(number)]), ['None of them', null, '0', () => this.labels.none()]];
      this.rows = entries.map(([name, color, digit, act]) => {
        const square = h('i', { class: 'lpd-square' });
        if (color) square.style.background = hex(color);
        const told = h('span', { class: 'lpd-count' });
        const key = digit.length === 1 && h('kbd', {}, digit);
        return { told, button: h('button', { type: 'button', title: digit.length === 1 ? `${name} (${digit})` : name, onclick: this.back(act) }, square, h('span', {}, name), told, key || h('span')) };
      });
      this.classes.replaceChildren(...this.rows.map((row) => row.button));
    }
    this.rows.forEach(({ told, button }, number) => {
      const isNone = number === classes.length;
      const said = selected.map((cell) => this.labels.classesOf(cell));
      const having = said.filter((own) => own && (isNone ? !own.length : own.includes(number))).length;
      button.setAttribute('aria-pressed', having === 0 ? 'false' : having === selected.length ? 'true' : 'mixed');
      button.disabled = !selected.length;
      const [here, all] = isNone ? [status.slide.counts.none, status.counts.none] : [status.slide.counts.classes[number], status.counts.classes[number]];
      told.textContent = here === all ? count(all) : `${count(here)} / ${count(all)}`;
      told.title = `${count(here)} tiles on this slide, ${count(all)} in the set`;
      told.classList.toggle('lpd-lacking', !isNone && !all);
    });
  }

  words({ counts, slides }, { classes }) {
    if (!counts.tiles) return 'Nothing is labelled yet. Enter proposes a tile; number keys tick what it shows, as many classes as there are.';
    const lacking = classes.filter((_, number) => !counts.classes[number]).map((entry) => entry.name);
    const told = `${counts.tiles === 1 ? 'One tile' : `${count(counts.tiles)} tiles`} on ${slides === 1 ? 'one slide' : `${slides} slides`}.`;
    return lacking.length ? `${told} None yet shows ${lacking.join(', ')}.` : told;
  }

  /** Bring the tools into view. */
  reveal() {
    this.element.scrollIntoView({ block: 'nearest' });
  }
}
