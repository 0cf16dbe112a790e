// Prototypes muted or merged, and what that does to the mask and the areas: at once, from the stored maps.

import { api } from './api.js';
import { areaCell, h, hex } from './dom.js';
import { NO_EDITS } from './compare_side.js';

const WAIT_MS = 60;

export class CompareEdits {
  constructor({ attempt, onEdit, onNamed, onSaved }) {
    Object.assign(this, { attempt, onEdit, onNamed, onSaved });
    this.areas = new Map(); // result and edits -> areas
    this.waiting = {}; // by side
    this.body = h('div');
    this.element = h('details', { class: 'lpd-layers lpd-edits', open: false }, h('summary', {}, h('h3', {}, 'Name, mute, merge')), this.body);
    this.element.addEventListener('toggle', () => this.state && this.render(this.state));
  }

  render(state) {
    this.state = state;
    const ready = state.sides.filter((side) => side.about && side.job.ended);
    this.element.hidden = !ready.length;
    if (!this.element.open) return;
    const focused = document.activeElement?.dataset?.edit;
    this.body.replaceChildren(...ready.flatMap((side) => this.part(side)));
    if (focused) this.body.querySelector(`[data-edit="${focused}"]`)?.focus();
  }

  part(side) {
    const title = h('h4', {}, `${side.name === 'left' ? 'Left' : 'Right'}: ${side.shown}`);
    const parts = side.index === null ? [] : [this.naming(side), this.buttons(side)];
    return [title, ...parts, this.said(side), ...(side.edited ? [this.table(side), this.saving(side)] : [])];
  }

  buttons(side) {
    const { index, edits } = side;
    const name = side.nameOf(index);
    const muted = edits.muted.includes(index);
    const { uncounted } = side.about;
    const never = uncounted.includes(index); // muted in the model itself
    const button = (key, text, title, act, disabled = false) => h('button', { type: 'button', class: 'lpd-secondary', 'data-edit': `${side.name}-${key}`, title, disabled, onclick: act }, text);
    const fellows = side.prototypesOf(codeOf(side, index)).filter((other) => other !== index && !uncounted.includes(other) && !edits.muted.includes(other) && !edits.merged.some((one) => one.includes(other) && one.includes(index)));
    const merge = h('select', { 'aria-label': `Merge ${name} with`, title: 'Let both count as one prototype that lies between them', disabled: muted || never || !fellows.length, 'data-edit': `${side.name}-merge` }, h('option', { value: '' }, 'Merge with …'), fellows.map((other) => h('option', { value: other }, side.nameOf(other))));
    merge.addEventListener('change', () => merge.value && this.change(side, merged(edits, index, Number(merge.value))));
    return h(
      'div',
      { class: 'lpd-edit-row' },
      button('mute', muted ? `Unmute ${name}` : `Mute ${name}`, never ? 'This prototype is muted in the model itself' : muted ? 'Let this prototype count again' : 'See the mask without this prototype', () => this.change(side, muted ? { ...edits, muted: edits.muted.filter((m) => m !== index) } : without(edits, index)), never),
      merge,
      button('undo', 'Undo', 'Take back the last change', () => this.takeBack(side), !side.history.length),
      button('reset', 'Reset', 'Let all prototypes count as the model has them', () => this.change(side, NO_EDITS), !side.edited),
    );
  }

  /** A field for the name of the chosen prototype; it is kept beside the model. */
  naming(side) {
    const plain = side.plainName(side.index);
    const field = h('input', { type: 'text', maxLength: 60, placeholder: 'e.g. solid growth', value: side.about.names[side.index] ?? '', 'aria-label': `Name of ${plain}`, 'data-edit': `${side.name}-name` });
    const save = () => field.value.trim() !== (side.about.names[side.index] ?? '') && this.attempt(() => this.rename(side, field.value.trim()));
    field.addEventListener('change', save);
    return h('label', { class: 'lpd-naming', title: 'Kept beside the model, and in every copy of it' }, h('span', {}, plain), field);
  }

  async rename(side, text) {
    const { shown } = side;
    const { names } = await api.namePrototypes(shown, side.about.digest, { [side.index]: text });
    this.onNamed(shown, names);
  }

  /** Save the model as it is edited. */
  saving(side) {
    const field = h('input', { type: 'text', maxLength: 100, value: `${side.shown}-edited`, 'aria-label': 'Name of the new model', 'data-edit': `${side.name}-new` });
    const form = h('form', { class: 'lpd-saving' }, field, h('button', { type: 'submit', class: 'lpd-secondary', title: 'Save a copy of this model with these prototypes muted and merged; the model itself stays as it is' }, 'Save as model'));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.attempt(async () => this.onSaved(await api.saveEdited(side.shown, side.about.digest, field.value, side.edits)));
    });
    return form;
  }

  change(side, edits) {
    side.edit(edits);
    this.onEdit(side);
  }

  takeBack(side) {
    side.undo();
    this.onEdit(side);
  }

  said(side) {
    const { muted, merged: groups } = side.edits;
    const names = (list) => list.map((index) => side.nameOf(index)).join(', ');
    const parts = [muted.length && `Muted: ${names(muted)}.`, ...groups.map((members) => `As one: ${names(members)}.`)].filter(Boolean);
    return h('p', { class: 'lpd-hint', 'data-said': side.name }, parts.join(' ') || 'All prototypes count.');
  }

  table(side) {
    const key = `${side.job.id} ${side.job.updated} ${JSON.stringify(side.edits)}`;
    const found = this.areas.get(key);
    if (!found) {
      const place = h('p', { class: 'lpd-hint' }, 'Counting areas …');
      this.load(side, key, place);
      return place;
    }
    return this.shown(side, found);
  }

  /** Areas as a table, or why there are none. */
  shown(side, found) {
    if (found.error) return h('p', { class: 'lpd-notice' }, found.error);
    const number = (value) => areaCell(value, found.before.reduce((a, b) => a + b) < 1 ? 3 : 2);
    const rows = side.classes.map((entry, value) => {
      const dot = h('i', { class: 'lpd-dot' });
      dot.style.background = hex(entry.color);
      const exact = found.after[value] - found.before[value];
      const by = Math.abs(exact) < 1e-9 ? 0 : exact; // a thousandth of a µm² is rounding
      const difference = number(Math.abs(by));
      const sign = by === 0 ? '' : by > 0 ? '+' : '−';
      return h('tr', {}, h('th', { scope: 'row' }, dot, entry.name), h('td', {}, number(found.before[value])), h('td', {}, number(found.after[value])), h('td', {}, `${sign}${difference}`));
    });
    const head = h('tr', {}, h('td', {}, 'mm²'), ['before', 'after', 'change'].map((text) => h('th', { scope: 'col' }, text)));
    const table = h('table', { title: 'Counted at the same places, from the stored maps' }, h('thead', {}, head), h('tbody', {}, rows));
    const hint = side.about.adapted && h('p', { class: 'lpd-hint' }, 'The slide’s own prototypes are kept as they were found with all at work. A model saved like this finds them anew, so its mask may differ by about 1 % of the tissue.');
    return h('div', { class: 'lpd-figures' }, table, hint || '');
  }

  /** Ask for the areas once no further change follows, and put them in their place: whoever types beside it goes on. */
  load(side, key, place) {
    clearTimeout(this.waiting[side.name]);
    const { job, edits } = side;
    this.waiting[side.name] = setTimeout(async () => {
      const found = await api.editedAreas(job.id, edits).catch((error) => ({ error: error.message }));
      if (!found.error) this.areas.set(key, found);
      if (place.isConnected) place.replaceWith(this.shown(side, found));
    }, WAIT_MS);
  }
}

const codeOf = (side, index) => side.classes[Math.floor(index / side.about.per_class)].code;

/** A muted prototype is in no group; a group of one is none. */
const without = ({ muted, merged: groups }, index) => ({
  muted: [...muted, index].sort((a, b) => a - b),
  merged: groups.map((members) => members.filter((m) => m !== index)).filter((members) => members.length > 1),
});

/** The groups that two prototypes are in become one. */
function merged({ muted, merged: groups }, one, other) {
  const touched = groups.filter((members) => members.includes(one) || members.includes(other));
  const joined = [...new Set([one, other, ...touched.flat()])].sort((a, b) => a - b);
  return { muted, merged: [...groups.filter((members) => !touched.includes(members)), joined] };
}
