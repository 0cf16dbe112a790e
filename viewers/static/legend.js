// The legend doubles as the table of areas: per class a switch, a colour, its area and its share of the tissue.

import { memory } from './api.js';
import { areaCell, h, hex, rgb } from './dom.js';

const FINE_BELOW_MM2 = 1; // a biopsy needs a third decimal, a resection does not

export class Legend {
  constructor({ onColour }) {
    this.onColour = onColour;
    this.rows = h('div', { class: 'lpd-legend-rows' });
    this.element = h('div', { class: 'lpd-legend' }, this.rows);
  }

  render(state) {
    const { job, classes, hidden } = state;
    const { areas, whose } = state.figures;
    this.element.hidden = !classes.length;
    const key = JSON.stringify([job.id, classes, areas, whose]);
    if (this.shows === key) return;
    this.shows = key;
    const head = areas && h('div', { class: 'lpd-legend-row lpd-legend-head' }, h('span'), h('span', {}, whose), h('span', {}, 'mm²'), h('span', {}, 'of tissue'));
    const total = areas?.find((one) => one.code === 'TISSUE');
    this.decimals = total && total.area_mm2 < FINE_BELOW_MM2 ? 3 : 2;
    const rows = classes.slice(0, -1).map((entry, value) => this.row(entry, value, areas, hidden));
    const foot = total && h('div', { class: 'lpd-legend-row lpd-legend-foot' }, h('span'), h('span', {}, total.name), h('span', {}, areaCell(total.area_mm2, this.decimals)), h('span'));
    this.rows.replaceChildren(...[head, ...rows, foot].filter(Boolean));
  }

  row(entry, value, areas, hidden) {
    const own = memory.get('colors', {});
    const colour = h('input', { type: 'color', value: hex(own[entry.code] ?? entry.color), title: `Colour of ${entry.name}`, 'aria-label': `Colour of ${entry.name}` });
    colour.addEventListener('input', () => {
      memory.set('colors', { ...memory.get('colors', {}), [entry.code]: rgb(colour.value) });
      this.onColour();
    });
    const toggle = h('input', { type: 'checkbox', checked: !hidden.has(value), id: `lpd-class-${value}`, 'data-class': entry.code });
    toggle.addEventListener('change', () => {
      if (toggle.checked) hidden.delete(value);
      else hidden.add(value);
      this.onColour();
    });
    const area = areas?.find((one) => one.code === entry.code);
    return h(
      'div',
      { class: 'lpd-legend-row' },
      h('span', { class: 'lpd-swatch' }, colour),
      h('label', { htmlFor: toggle.id }, toggle, h('span', {}, entry.name)),
      h('span', {}, area ? areaCell(area.area_mm2, this.decimals) : ''),
      h('span', {}, area ? `${area.percent.toFixed(1)} %` : ''),
    );
  }
}
