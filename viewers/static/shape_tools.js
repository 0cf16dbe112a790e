// Drawing with mouse, pen or finger: rectangle, polygon (corner by corner, or freehand while dragging), ruler, mark;
// and, with no tool chosen, selecting and moving corners.

import { h, icon } from './dom.js';
import { simplified } from './outline.js';
import { corners, editable } from './shape_canvas.js';
import { line, point, polygon } from './shapes.js';

const TOOLS = [
  ['hand', 'Move and select (Esc)', 'Escape'],
  ['rectangle', 'Draw a rectangle (e)', 'e'],
  ['polygon', 'Draw a region: click its corners, or drag freehand (p)', 'p'],
  ['ruler', 'Measure a length (l; Enter keeps it)', 'l'],
  ['pin', 'Set a bookmark (b)', 'b'],
];
const LEAST_PX = 4; // a slip of the hand draws nothing
const STEP_PX = 3; // between freehand points
const FREEHAND_PX = 1; // how far an outline may be from what the hand drew
const CLOSE_PX = 10;

export class ShapeTools {
  constructor(view, shapes, canvas, { classification, onTool, onMark }) {
    Object.assign(this, { view, shapes, canvas, classification, onTool, onMark });
    this.tool = 'hand';
    this.paused = false; // somebody else has the pointer
    this.points = [];
    this.buttons = new Map();
    const button = (name, title, act) => h('button', { type: 'button', title, 'aria-label': title, onclick: act }, icon(name));
    for (const [name, title] of TOOLS) this.buttons.set(name, button(name, title, () => this.choose(name)));
    this.undoButton = button('undo', 'Undo (Ctrl+Z)', () => shapes.undo());
    this.redoButton = button('redo', 'Redo (Ctrl+Y)', () => shapes.redo());
    this.element = h('div', { class: 'lpd-tools lpd-draw', role: 'toolbar', 'aria-label': 'Drawing' }, ...this.buttons.values(), this.undoButton, this.redoButton);
    view.stage.append(this.element);
    for (const [name, act] of Object.entries(this.handlers)) view.osd.addHandler(name, (event) => this.paused || act(event));
    this.setKeys();
    this.choose('hand');
  }

  setKeys() {
    const { others } = this.view.keys;
    for (const [name, , key] of TOOLS.slice(1)) others.set(key, () => this.choose(name) ?? true);
    others.set('Escape', () => this.escape());
    others.set('Enter', () => (this.tool === 'polygon' && this.finishPolygon()) || (this.tool === 'ruler' && this.keepMeasured()));
    others.set('Backspace', () => this.dropPoint() || this.deleteSelected());
    others.set('Delete', () => this.deleteSelected());
    others.set('Ctrl+z', (event) => (event.shiftKey ? this.shapes.redo() : this.shapes.undo()) ?? true);
    others.set('Ctrl+y', () => this.shapes.redo() ?? true);
  }

  choose(name) {
    this.tool = name;
    this.drop();
    for (const [known, element] of this.buttons) element.setAttribute('aria-pressed', known === name);
    this.view.host.classList.toggle('lpd-drawing', name !== 'hand');
    this.onTool(name);
  }

  render() {
    this.undoButton.disabled = !this.shapes.past.length;
    this.redoButton.disabled = !this.shapes.future.length;
  }

  escape() {
    const busy = this.canvas.draft || this.tool !== 'hand' || this.shapes.selected;
    if (this.points.length) this.drop();
    else if (this.tool !== 'hand' || this.canvas.draft) this.choose('hand');
    else this.shapes.select(null);
    return Boolean(busy);
  }

  deleteSelected() {
    if (!this.shapes.selected) return false;
    this.shapes.remove(this.shapes.selected);
    return true;
  }

  dropPoint() {
    if (this.tool !== 'polygon' || !this.points.length) return false;
    this.points.pop();
    this.showDraft(this.points);
    return true;
  }

  /** Forget what is being drawn or measured. */
  drop() {
    this.points = [];
    this.moved = null;
    this.canvas.draft = null;
    this.canvas.schedule();
  }

  get handlers() {
    return {
      'canvas-press': (event) => this.press(event),
      'canvas-drag': (event) => this.drag(event),
      'canvas-release': (event) => this.release(event),
      'canvas-click': (event) => this.click(event),
      'canvas-double-click': (event) => {
        if (this.tool !== 'hand') event.preventDefaultAction = true;
        if (this.tool === 'polygon') this.finishPolygon();
      },
    };
  }

  press({ position }) {
    this.start = position;
    this.freehand = false;
    if (!this.view.item) return;
    if (this.tool === 'hand') this.corner = this.canvas.cornerAt(position);
  }

  drag(event) {
    if (!this.start || !this.view.item) return;
    const { position } = event;
    if (this.tool === 'hand') {
      if (this.corner === null || this.corner === undefined) return;
      event.preventDefaultAction = true;
      this.moved = moveCorner(this.shapes.get(this.shapes.selected), this.corner, this.view.pointAt(position));
      this.canvas.draft = this.moved;
      this.canvas.schedule();
      return;
    }
    event.preventDefaultAction = true;
    if (this.tool === 'rectangle') this.showDraft(this.rectangle(this.start, position));
    if (this.tool === 'ruler') this.showDraft([this.view.pointAt(this.start), this.view.pointAt(position)]);
    if (this.tool === 'polygon') this.sketch(position);
  }

  sketch(position) {
    if (!this.freehand) {
      this.freehand = true;
      if (!this.points.length) this.points.push(this.view.pointAt(this.start));
      this.last = this.start;
    }
    if (Math.hypot(position.x - this.last.x, position.y - this.last.y) < STEP_PX) return;
    this.last = position;
    this.points.push(this.view.pointAt(position));
    this.showDraft(this.points);
  }

  release({ position }) {
    const start = this.start;
    this.start = null;
    if (!start || !this.view.item) return;
    if (this.moved) {
      const { moved } = this;
      this.drop();
      this.shapes.replace(moved.id, moved);
    }
    const far = Math.hypot(position.x - start.x, position.y - start.y) >= LEAST_PX;
    if (this.tool === 'rectangle' && far) this.add(polygon(this.rectangle(start, position), this.classification()));
    if (this.tool === 'ruler' && far) this.measured([this.view.pointAt(start), this.view.pointAt(position)]);
    if (this.tool === 'polygon' && this.freehand) this.finishPolygon();
  }

  click(event) {
    if (!this.view.item) return;
    if (this.tool === 'hand') {
      if (event.quick) this.shapes.select(this.canvas.featureAt(event.position)?.id ?? null);
      return;
    }
    event.preventDefaultAction = true;
    if (!event.quick) return;
    const place = this.view.pointAt(event.position);
    if (this.tool === 'pin') this.mark(place);
    if (this.tool !== 'polygon') return;
    if (this.points.length >= 3 && this.isNear(this.points[0], event.position)) this.finishPolygon();
    else if (!this.points.length || !this.isNear(this.points.at(-1), event.position)) {
      this.points.push(place);
      this.showDraft(this.points);
    }
  }

  isNear(place, { x, y }) {
    const [px, py] = this.canvas.toScreen(place);
    return Math.hypot(px - x, py - y) < CLOSE_PX;
  }

  mark(place) {
    const marks = this.shapes.features.filter((feature) => feature.geometry.type === 'Point').length;
    const made = point(place, `Mark ${marks + 1}`);
    made.properties.lpd = { view: this.view.where };
    this.add(made);
    this.onMark();
  }

  finishPolygon() {
    const points = this.freehand ? simplified(this.points, FREEHAND_PX / this.view.scale) : this.points;
    this.drop();
    if (points.length < 3) return false;
    this.add(polygon(points, this.classification()));
    return true;
  }

  /** A measurement stays until the next one, and is kept only if its Keep button or Enter is pressed. */
  measured(points) {
    this.canvas.draft = line(points);
    this.canvas.schedule();
    this.onTool(this.tool);
  }

  keepMeasured() {
    const { draft } = this.canvas;
    this.drop();
    if (draft) this.add(draft);
    return Boolean(draft);
  }

  add(feature) {
    this.drop();
    this.shapes.add([feature]);
    this.choose('hand');
    this.shapes.select(feature.id);
  }

  showDraft(points) {
    const plain = { type: 'Feature', properties: {}, geometry: { type: 'LineString', coordinates: points } };
    if (this.tool !== 'ruler' && points.length) plain.geometry = { type: 'MultiLineString', coordinates: [this.tool === 'rectangle' ? [...points, points[0]] : points] };
    this.canvas.draft = points.length ? plain : null;
    this.canvas.schedule();
  }

  /** Corners of the rectangle on the slide between two points of the stage; upright on the slide, however it is turned. */
  rectangle(from, to) {
    const [[x0, y0], [x1, y1]] = [this.view.pointAt(from), this.view.pointAt(to)];
    const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)].map(Math.round);
    const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)].map(Math.round);
    return [[left, top], [right, top], [right, bottom], [left, bottom]];
  }

  destroy() {
    this.element.remove();
  }
}

/** The feature with one corner elsewhere; rectangles stay rectangles. */
function moveCorner(feature, index, place) {
  if (!feature || !editable(feature)) return feature;
  const { type } = feature.geometry;
  if (type === 'Point') return movePin(feature, place);
  const places = corners(feature).map((old, i) => (i === index ? place : old));
  if (type === 'LineString') return { ...feature, geometry: { ...feature.geometry, coordinates: places } };
  if (isUpright(corners(feature))) {
    const [x, y] = place;
    const [ox, oy] = corners(feature)[(index + 2) % 4];
    const old = corners(feature);
    places.forEach((_, i) => {
      if (i === index) places[i] = [x, y];
      else if (i === (index + 2) % 4) places[i] = [ox, oy];
      else places[i] = old[i][0] === old[index][0] ? [x, oy] : [ox, y];
    });
  }
  return { ...feature, geometry: { ...feature.geometry, coordinates: [[...places, places[0]]] } };
}

/** A bookmark elsewhere: the view that it leads to goes with it. */
function movePin(feature, [x, y]) {
  const { geometry, properties } = feature;
  const [oldX, oldY] = geometry.coordinates;
  const seen = properties?.lpd?.view;
  const view = seen && { ...seen, x: seen.x + x - oldX, y: seen.y + y - oldY };
  return { ...feature, geometry: { ...geometry, coordinates: [x, y] }, properties: view ? { ...properties, lpd: { ...properties.lpd, view } } : properties };
}

const isUpright = (places) =>
  places.length === 4 && places.every(([x, y], i) => (x === places[(i + 1) % 4][0]) !== (y === places[(i + 1) % 4][1]));
