// Annotations in the controls: what is drawn, the selected one's name, class and measures, import and export.

import { api } from './api.js';
import { areaText, h, hex, length, rgb, trim } from './dom.js';
import { featuresOf } from './geojson.js';
import { colorOf } from './shape_canvas.js';
import { boxOf, classOf, isArea, measure } from './shapes.js';

const SHOWN = 200; // rows; more would slow the page, and nobody reads them
const NONE = '';

export class ShapePanel {
  constructor(shapes, view, { classes, onTrouble, onVisible, onKeep, onSegment }) {
    Object.assign(this, { shapes, view, classes, onTrouble, onSegment });
    this.count = h('span', { class: 'lpd-count' });
    this.list = h('ul', { class: 'lpd-shape-list' });
    this.editor = h('div', { class: 'lpd-shape-editor', hidden: true });
    this.keep = h('button', { type: 'button', class: 'lpd-secondary', hidden: true, title: 'Save this measurement with the annotations of the slide', onclick: onKeep }, 'Keep this measurement');
    const eye = h('input', { type: 'checkbox', checked: true, id: 'lpd-shapes-on' });
    eye.addEventListener('change', () => onVisible(eye.checked));
    this.file = h('input', { type: 'file', accept: '.geojson,.json,application/geo+json', hidden: true });
    this.file.addEventListener('change', () => this.import());
    this.exportLink = h('a', { class: 'lpd-download', download: '', title: 'Save all annotations as GeoJSON for QuPath' }, 'Export');
    const importButton = h('button', { type: 'button', class: 'lpd-download', title: 'Add annotations that QuPath has exported as GeoJSON', onclick: () => this.file.click() }, 'Import');
    this.element = h(
      'section',
      { class: 'lpd-shapes-section' },
      h('header', {}, h('h3', {}, h('label', { htmlFor: 'lpd-shapes-on' }, eye, ' Annotations')), this.count),
      this.keep,
      this.editor,
      this.list,
      h('div', { class: 'lpd-downloads' }, importButton, this.exportLink, this.file),
    );
  }

  render() {
    const { slide, features, unsaved } = this.shapes;
    this.element.hidden = !slide;
    if (!slide) return;
    this.count.textContent = `${features.length || ''}${unsaved ? ' · saving …' : ''}`;
    this.exportLink.href = api.annotationFile(slide.id);
    this.exportLink.hidden = !features.length;
    this.list.replaceChildren(...features.slice(0, SHOWN).map((feature) => this.row(feature)));
    if (features.length > SHOWN) this.list.append(h('li', { class: 'lpd-more' }, `and ${features.length - SHOWN} more`));
    this.renderEditor();
  }

  showMeasured(is) {
    this.keep.hidden = !is;
    if (is) this.keep.scrollIntoView({ block: 'nearest' });
  }

  /** A bookmark was set: its note is written next. */
  bringEditor() {
    this.editor.scrollIntoView({ block: 'nearest' });
  }

  row(feature) {
    const dot = h('i', { class: feature.geometry.type.endsWith('Point') ? 'lpd-dot' : 'lpd-square' });
    dot.style.background = hex(colorOf(feature));
    const choose = () => {
      this.shapes.select(feature.id);
      this.fly(feature);
    };
    return h('li', {}, h('button', { type: 'button', 'aria-pressed': feature.id === this.shapes.selected, title: 'Show it', onclick: choose }, dot, h('span', {}, titleOf(feature)), h('span', { class: 'lpd-size' }, this.sizeOf(feature))));
  }

  fly(feature) {
    const kept = feature.properties?.lpd?.view;
    if (feature.geometry.type === 'Point' && kept) this.view.show(kept);
    else if (feature.geometry.type === 'Point') this.view.show({ x: feature.geometry.coordinates[0], y: feature.geometry.coordinates[1] });
    else this.view.fit(boxOf(feature));
  }

  sizeOf(feature) {
    const { mpp } = this.view.slide ?? {};
    const { area, length: px } = measure(feature);
    if (isArea(feature)) return mpp ? areaText(area * (mpp / 1000) ** 2) : `${trim(area)} px²`;
    if (feature.geometry.type.endsWith('Point')) return '';
    return mpp ? length(px * mpp) : `${trim(px)} px`;
  }

  renderEditor() {
    const feature = this.shapes.get(this.shapes.selected);
    this.editor.hidden = !feature;
    const key = feature && JSON.stringify([feature.id, feature.properties, feature.geometry.coordinates.length, this.classes()]);
    if (this.editing === feature) return;
    this.editing = feature;
    if (!feature || (this.edited === key && this.editor.contains(document.activeElement))) return;
    this.edited = key;
    const name = h('input', { type: 'text', value: feature.properties?.name ?? '', placeholder: 'Name or note', 'aria-label': 'Name or note', maxLength: 500 });
    name.addEventListener('change', () => this.change({ name: name.value.trim() || undefined }));
    name.addEventListener('keydown', (event) => event.key === 'Enter' && this.view.host.focus()); // and keys are the viewer's again
    const rows = [h('div', { class: 'lpd-field' }, h('label', {}, 'Name'), name)];
    if (!feature.geometry.type.endsWith('Point')) rows.push(this.classField(feature));
    if (isArea(feature)) rows.push(h('p', { class: 'lpd-hint' }, this.measures(feature)));
    const act = (text, title, does) => h('button', { type: 'button', class: 'lpd-secondary', title, onclick: does }, text);
    rows.push(
      h(
        'div',
        { class: 'lpd-shape-acts' },
        isArea(feature) && act('Segment', 'Segment this region with the chosen model', () => this.onSegment(this.shapes.get(feature.id))),
        act('Zoom to', 'Show it', () => this.fly(this.shapes.get(feature.id))),
        act('Delete', 'Delete it (Delete; Ctrl+Z brings it back)', () => this.shapes.remove(feature.id)),
      ),
    );
    this.editor.replaceChildren(...rows);
  }

  classField(feature) {
    const own = classOf(feature);
    const known = this.classes();
    const choice = h('select', { 'aria-label': 'Class' });
    choice.append(h('option', { value: NONE }, 'no class'), ...known.map((entry) => h('option', { value: entry.name }, entry.name)));
    if (own && !known.some((entry) => entry.name === own)) choice.append(h('option', { value: own }, own));
    choice.value = own ?? NONE;
    const colour = h('input', { type: 'color', value: hex(colorOf(feature)), title: 'Colour', 'aria-label': 'Colour of the outline' });
    choice.addEventListener('change', () => {
      const entry = known.find((one) => one.name === choice.value);
      this.change({ classification: choice.value ? { ...(own === choice.value ? feature.properties.classification : {}), name: choice.value, color: entry?.color ?? colorOf(feature) } : undefined });
    });
    colour.addEventListener('change', () => {
      const current = this.shapes.get(feature.id).properties ?? {};
      this.change(current.classification ? { classification: { ...current.classification, color: rgb(colour.value) } } : { color: rgb(colour.value) });
    });
    return h('div', { class: 'lpd-field lpd-class-field' }, h('label', {}, 'Class'), choice, h('span', { class: 'lpd-swatch' }, colour));
  }

  measures(feature) {
    const { mpp } = this.view.slide ?? {};
    const { length: px } = measure(feature);
    return `${this.sizeOf(feature)} · border ${mpp ? length(px * mpp) : `${trim(px)} px`}`;
  }

  change(properties) {
    const feature = this.shapes.get(this.shapes.selected);
    if (!feature) return;
    const merged = { ...feature.properties, ...properties };
    for (const [name, value] of Object.entries(merged)) if (value === undefined) delete merged[name];
    this.shapes.replace(feature.id, { ...feature, properties: merged });
  }

  async import() {
    const [file] = this.file.files;
    this.file.value = '';
    if (!file) return;
    try {
      const features = featuresOf(JSON.parse(await file.text()));
      const [first] = this.shapes.add(features);
      if (first) this.shapes.select(first.id);
    } catch (error) {
      this.onTrouble(`${file.name} cannot be imported (${error.message}): export it from QuPath as GeoJSON.`);
    }
  }
}

const KINDS = { Point: 'Mark', MultiPoint: 'Marks', LineString: 'Length', MultiLineString: 'Lengths' };

const titleOf = (feature) => feature.properties?.name || classOf(feature) || KINDS[feature.geometry.type] || 'Region';
