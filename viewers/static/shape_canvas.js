// Draws what people have drawn: outlines in their class's colour, handles of the selected one, lengths of rulers.

import { length, trim } from './dom.js';
import { away, withRoom } from './outline.js';
import { boxOf, isArea, measure, outlinesOf } from './shapes.js';

const INK = [23, 34, 45];
const HANDLE_PX = 4;
const NEAR_PX = 7;
const HANDLE_ROOM_PX = 14;

export class ShapeCanvas {
  constructor(view, shapes) {
    this.view = view;
    this.shapes = shapes;
    this.draft = null; // a feature that is being drawn, or a measurement that is not kept
    this.visible = true;
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'lpd-shapes';
    view.osd.canvas.append(this.canvas);
    this.draw = this.draw.bind(this);
    view.osd.addHandler('update-viewport', this.draw);
    view.osd.addHandler('resize', this.draw);
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw?.();
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.view.osd.canvas;
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext('2d');
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.drawn = 0;
    if (!this.view.item || !this.view.slide) return;
    const [a, b, c, d, e, f] = this.view.placement().matrix;
    this.toScreen = ([x, y]) => [a * x + c * y + e, b * x + d * y + f];
    const [left, top, seenWidth, seenHeight] = this.view.region();
    if (this.visible)
      for (const feature of this.shapes.features) {
        const [x, y, w, h] = boxOf(feature);
        if (x <= left + seenWidth && y <= top + seenHeight && x + w >= left && y + h >= top) this.paint(context, feature);
      }
    if (this.draft) this.paint(context, this.draft, true);
  }

  paint(context, feature, isDraft = false) {
    const selected = feature.id === this.shapes.selected;
    const [red, green, blue] = colorOf(feature);
    this.drawn += 1;
    const path = new Path2D();
    for (const outline of outlinesOf(feature)) outline.forEach((place, i) => path[i ? 'lineTo' : 'moveTo'](...this.toScreen(place)));
    if (isArea(feature)) {
      context.fillStyle = `rgb(${red} ${green} ${blue} / ${selected ? 0.16 : 0.06})`;
      context.fill(path, 'evenodd');
    }
    context.lineJoin = 'round';
    context.strokeStyle = 'rgb(255 255 255 / 85%)';
    context.lineWidth = selected ? 5 : 4;
    context.stroke(path);
    context.strokeStyle = `rgb(${red} ${green} ${blue})`;
    context.lineWidth = selected ? 2.5 : 2;
    context.setLineDash(isDraft ? [6, 4] : []);
    context.stroke(path);
    context.setLineDash([]);
    const { type } = feature.geometry;
    if (type.endsWith('Point')) outlinesOf(feature).flat().forEach((place) => this.pin(context, place, [red, green, blue], selected));
    if (selected && editable(feature)) for (const i of this.handles(feature)) this.handle(context, corners(feature)[i]);
    const text = this.textOf(feature);
    if (text) this.label(context, feature, text);
  }

  textOf(feature) {
    const { name } = feature.properties ?? {};
    if (feature.geometry.type === 'LineString' && this.view.slide.mpp) return [name, length(measure(feature).length * this.view.slide.mpp)].filter(Boolean).join(' · ');
    if (feature.geometry.type === 'LineString') return [name, `${trim(measure(feature).length)} px`].filter(Boolean).join(' · ');
    return name;
  }

  pin(context, place, [red, green, blue], selected) {
    const [x, y] = this.toScreen(place);
    context.beginPath();
    context.arc(x, y, selected ? 7 : 5.5, 0, 2 * Math.PI);
    context.fillStyle = `rgb(${red} ${green} ${blue})`;
    context.fill();
    context.strokeStyle = '#fff';
    context.lineWidth = 2;
    context.stroke();
  }

  handle(context, place) {
    const [x, y] = this.toScreen(place);
    context.fillStyle = '#fff';
    context.strokeStyle = `rgb(${INK})`;
    context.lineWidth = 1;
    context.fillRect(x - HANDLE_PX, y - HANDLE_PX, 2 * HANDLE_PX, 2 * HANDLE_PX);
    context.strokeRect(x - HANDLE_PX, y - HANDLE_PX, 2 * HANDLE_PX, 2 * HANDLE_PX);
  }

  label(context, feature, text) {
    const places = outlinesOf(feature).flat().map(this.toScreen);
    const [x, y] = places.reduce((best, place) => (place[1] < best[1] ? place : best));
    context.font = '600 12px system-ui, sans-serif';
    const width = context.measureText(text).width;
    context.fillStyle = 'rgb(255 255 255 / 88%)';
    context.beginPath();
    context.roundRect(x + 6, y - 25, width + 12, 19, 5);
    context.fill();
    context.fillStyle = `rgb(${INK})`;
    context.fillText(text, x + 12, y - 11);
  }

  /** The corner of the selected feature at a point of the stage: its place in the outline; null if none is near. */
  cornerAt({ x, y }) {
    const feature = this.shapes.get(this.shapes.selected);
    if (!feature || !editable(feature)) return null;
    const places = corners(feature).map(this.toScreen);
    return this.handles(feature).find((i) => Math.hypot(places[i][0] - x, places[i][1] - y) <= NEAR_PX) ?? null;
  }

  /** Numbers of the corners that have a handle: zoomed out, a long outline would be all handles. */
  handles(feature) {
    return withRoom(corners(feature).map(this.toScreen), HANDLE_ROOM_PX);
  }

  /** The feature whose border, or point, is near a point of the stage; the last drawn first. */
  featureAt({ x, y }) {
    return [...this.shapes.features].reverse().find((feature) =>
      outlinesOf(feature).some((outline) => {
        const places = outline.map(this.toScreen);
        if (places.length === 1) return Math.hypot(places[0][0] - x, places[0][1] - y) <= NEAR_PX + 2;
        return places.slice(1).some((end, i) => away([x, y], places[i], end) <= NEAR_PX);
      }),
    );
  }

  destroy() {
    this.draw = null;
    this.canvas.remove();
  }
}

export const colorOf = (feature) => {
  const { classification, color } = feature.properties ?? {};
  const found = classification?.color ?? color;
  if (Array.isArray(found) && found.length >= 3) return found.slice(0, 3);
  // QuPath before 0.4 packs a colour into one signed number.
  if (Number.isInteger(classification?.colorRGB)) return [16, 8, 0].map((shift) => (classification.colorRGB >> shift) & 255);
  return [11, 107, 131];
};

/** Simple outlines have handles; holes and many parts are shown only. */
export const editable = ({ geometry: { type, coordinates } }) => type === 'LineString' || type === 'Point' || (type === 'Polygon' && coordinates.length === 1);

export const corners = ({ geometry: { type, coordinates } }) => (type === 'Point' ? [coordinates] : type === 'LineString' ? coordinates : coordinates[0].slice(0, -1));
