// What people draw on a slide: GeoJSON features, as QuPath reads them, with undo, saved on the server by themselves.

import { api } from './api.js';

const SAVE_AFTER_MS = 500;
const RETRY_MS = 4000;
const KEPT_STEPS = 200;

export class Shapes {
  constructor({ onChange, onTrouble }) {
    this.onChange = onChange;
    this.onTrouble = onTrouble;
    this.reset();
    this.beforeLeaving = (event) => this.unsaved && event.preventDefault();
    window.addEventListener('beforeunload', this.beforeLeaving);
  }

  reset() {
    clearTimeout(this.timer);
    this.slide = null;
    this.features = [];
    this.accepted = []; // what the server has
    this.revision = 0;
    this.past = [];
    this.future = [];
    this.selected = null;
    this.unsaved = false;
  }

  async open(slide) {
    if (this.unsaved) await this.save();
    this.reset();
    this.onChange();
    const { features, revision } = await api.annotations(slide.id);
    Object.assign(this, { slide, revision, features: features.map(withId) });
    this.accepted = this.features;
    this.onChange();
  }

  get(id) {
    return this.features.find((feature) => feature.id === id);
  }

  select(id) {
    if (this.selected === id) return;
    this.selected = id;
    this.onChange();
  }

  add(features) {
    const added = features.map(withId);
    this.change([...this.features, ...added]);
    return added;
  }

  replace(id, feature) {
    this.change(this.features.map((known) => (known.id === id ? feature : known)));
  }

  remove(id) {
    if (this.selected === id) this.selected = null;
    this.change(this.features.filter((feature) => feature.id !== id));
  }

  undo() {
    this.step(this.past, this.future);
  }

  redo() {
    this.step(this.future, this.past);
  }

  step(from, to) {
    if (!from.length) return;
    to.push(this.features);
    this.take(from.pop());
  }

  change(features) {
    if (!this.slide) return;
    this.past.push(this.features);
    if (this.past.length > KEPT_STEPS) this.past.shift();
    this.future = [];
    this.take(features);
  }

  take(features) {
    this.features = features;
    if (!this.get(this.selected)) this.selected = null;
    this.unsaved = true;
    this.onChange();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), SAVE_AFTER_MS);
  }

  async save() {
    clearTimeout(this.timer);
    if (this.saving) {
      await this.saving;
      if (!this.unsaved) return;
    }
    this.saving = this.send();
    await this.saving;
    this.saving = null;
  }

  async send() {
    const { slide, features, revision } = this;
    try {
      const answer = await api.saveAnnotations(slide, revision, features);
      if (this.slide !== slide) return;
      this.revision = answer.revision;
      this.accepted = features;
      if (this.features === features) this.unsaved = false;
      else this.timer = setTimeout(() => this.save(), SAVE_AFTER_MS);
    } catch (error) {
      this.onTrouble(error);
      if (this.slide !== slide) return;
      if (error.status === 409) {
        this.unsaved = false;
        await this.open(slide).catch(() => undefined);
      } else if (error.status === 400) this.takeBack();
      else this.timer = setTimeout(() => this.save(), RETRY_MS);
    }
    this.onChange();
  }

  /** What was refused would be refused again, and all that is drawn after it: show what is saved. */
  takeBack() {
    clearTimeout(this.timer);
    this.features = this.accepted;
    [this.past, this.future] = [[], []]; // steps that lead through what was refused
    if (!this.get(this.selected)) this.selected = null;
    this.unsaved = false;
  }

  destroy() {
    clearTimeout(this.timer);
    window.removeEventListener('beforeunload', this.beforeLeaving);
  }
}

export const polygon = (ring, classification, name) => ({
  type: 'Feature',
  id: crypto.randomUUID?.() ?? randomId(),
  geometry: { type: 'Polygon', coordinates: [[...ring, ring[0]].map(rounded)] },
  properties: { objectType: 'annotation', ...(classification && { classification }), ...(name && { name }) },
});

export const line = (points) => feature({ type: 'LineString', coordinates: points.map(rounded) });
export const point = (place, name) => feature({ type: 'Point', coordinates: rounded(place) }, name);

const feature = (geometry, name) => ({
  type: 'Feature',
  id: crypto.randomUUID?.() ?? randomId(),
  geometry,
  properties: { objectType: 'annotation', ...(name && { name }) },
});

const rounded = ([x, y]) => [Number(x.toFixed(2)), Number(y.toFixed(2))];

// Pages that are not served securely (http on a network) have no randomUUID.
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5');
}

const withId = (feature) => (feature.id === undefined || feature.id === null ? { ...feature, id: randomId() } : feature);

/** Outlines of a feature: lists of [x, y], those of polygons closed. */
export function outlinesOf({ geometry: { type, coordinates } }) {
  if (type === 'Point') return [[coordinates]];
  if (type === 'MultiPoint' || type === 'LineString') return [coordinates];
  if (type === 'MultiPolygon') return coordinates.flat();
  return coordinates;
}

/** Name of a feature's class; QuPath lists those of a class that is made of several. */
export const classOf = ({ properties }) => properties?.classification?.name ?? properties?.classification?.names?.join?.(': ');

export const isArea = (feature) => feature.geometry.type.endsWith('Polygon');

/** [x, y, width, height] around a feature. */
export function boxOf(feature) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of outlinesOf(feature).flat()) {
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  return [left, top, right - left, bottom - top];
}

/** Area in squared and length of all borders in plain level-0 pixels. */
export function measure(feature) {
  let [area, length] = [0, 0];
  const polygons = feature.geometry.type === 'MultiPolygon' ? feature.geometry.coordinates : [outlinesOf(feature)];
  for (const rings of polygons)
    rings.forEach((ring, number) => {
      const parts = ring.slice(1).map((end, i) => [ring[i], end]);
      length += parts.reduce((sum, [[x0, y0], [x1, y1]]) => sum + Math.hypot(x1 - x0, y1 - y0), 0);
      const twice = parts.reduce((sum, [[x0, y0], [x1, y1]]) => sum + x0 * y1 - x1 * y0, 0);
      area += (number ? -1 : 1) * Math.abs(twice / 2);
    });
  return { area: isArea(feature) ? area : 0, length };
}

/** Whether a point lies inside a feature's area. */
export function contains(feature, [x, y]) {
  if (!isArea(feature)) return false;
  let inside = false;
  for (const ring of outlinesOf(feature))
    for (let i = 1; i < ring.length; i += 1) {
      const [[x0, y0], [x1, y1]] = [ring[i - 1], ring[i]];
      if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) inside = !inside;
    }
  return inside;
}

/** The polygons, as in a GeoJSON MultiPolygon, of the last drawn area around a point; null if there is none. */
export function polygonsOf(features, place) {
  const found = [...features].reverse().find((feature) => contains(feature, place));
  return found ? (found.geometry.type === 'Polygon' ? [found.geometry.coordinates] : found.geometry.coordinates) : null;
}
