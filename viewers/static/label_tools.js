// Ticking tiles with mouse, pen or finger and with keys: a click selects a tile, a rectangle many; and their picture
// over the slide: who is ticked in the colours of its classes, the grid around the pointer, the selection.

import { h } from './dom.js';

const AROUND = 2; // tiles of the grid that show around the pointer
const LEAST_PX = 5; // a slip of the hand draws no rectangle
const TINY_PX = 7; // no grid is shown of smaller tiles
const SMALL_PX = 26; // smaller tiles are filled, larger ones framed
const SHOWN = [0.22, 0.72]; // share of the stage's height that a tile fills when it is gone to; between these it stays
const WISHED = 0.42;
const CLOSEST = 2; // screen pixels a level-0 pixel: beyond there is nothing to see
const SMALL_ALPHA = 0.55;
const DASH_PX = 9;
const NONE = [120, 130, 140];
const CHIP_PX = 17;

export const TOOLS = { tile: 'Tile', rectangle: 'Rectangle' };

export class LabelTools {
  constructor(view, labels) {
    Object.assign(this, { view, labels });
    this.tool = 'tile';
    // Thousands of tiles below, redrawn when they or the view change; above what follows the pointer.
    [this.canvas, this.above] = ['lpd-label-canvas', 'lpd-label-above'].map((name) => h('canvas', { class: `lpd-shapes ${name}` }));
    view.osd.canvas.append(this.canvas, this.above);
    this.pill = h('div', { class: 'lpd-label-pill', role: 'status', hidden: true });
    view.stage.append(this.pill);
    this.draw = this.draw.bind(this);
    view.osd.addHandler('update-viewport', () => this.draw?.());
    view.osd.addHandler('resize', () => this.draw?.());
    for (const [name, act] of Object.entries(this.handlers)) view.osd.addHandler(name, (event) => this.labels.active && this.labels.grid && act(event));
    this.hover = (event) => this.track(event);
    for (const name of ['pointermove', 'pointerleave']) view.host.addEventListener(name, this.hover);
    this.setKeys();
  }

  /** Keys mean this while labelling, and what they meant before otherwise. */
  setKeys() {
    const { labels } = this;
    const { others } = this.view.keys;
    const set = (key, act) => {
      const before = others.get(key);
      others.set(key, (event) => (labels.active ? (act(event) ?? true) : before?.(event)));
    };
    const onButton = (event) => event.target.closest?.('button, a, summary, [role=tab]') && !event.target.closest('.lpd-osd');
    others.set('t', () => (labels.active ? labels.leave() : labels.enter()) && true);
    for (let digit = 1; digit <= 9; digit += 1) set(String(digit), () => labels.toggle(digit - 1));
    set('0', () => labels.none());
    for (const key of ['Enter', ' ']) set(key, (event) => (onButton(event) ? false : void labels.next()));
    for (const key of ['Backspace', 'Delete']) set(key, () => labels.clear());
    set('c', () => this.use('tile'));
    set('d', () => this.use('rectangle'));
    set('Ctrl+z', () => labels.undo());
    set('Escape', () => this.escape());
    for (const [key, x, y] of [['ArrowLeft', -1, 0], ['ArrowRight', 1, 0], ['ArrowUp', 0, -1], ['ArrowDown', 0, 1]]) set(key, (event) => this.step(event, x, y));
  }

  use(tool) {
    this.tool = tool;
    this.from = null;
    this.view.host.classList.toggle('lpd-painting', tool === 'rectangle');
    this.labels.changed();
  }

  escape() {
    if (this.from || this.tool !== 'tile') this.use('tile');
    else if (this.labels.selected.length) this.labels.select([]);
    else this.labels.leave();
  }

  /** Move the selection to a neighbour; without one the keys move the slide. */
  step(event, x, y) {
    const { selected, grid } = this.labels;
    if (event.target.type === 'range' || selected.length !== 1 || !grid) return false;
    const cell = [selected[0][0] + x, selected[0][1] + y];
    if (cell[0] >= 0 && cell[1] >= 0 && cell[0] < grid.columns && cell[1] < grid.rows) this.labels.show(cell);
    return true;
  }

  end() {
    this.use('tile');
    this.pointer = null;
    this.draw();
  }

  get handlers() {
    const drawing = (event) => this.tool === 'rectangle' || event.originalEvent?.shiftKey;
    return {
      'canvas-press': (event) => {
        this.from = drawing(event) ? event.position : null;
        this.drawn = false; // a long drag ends in no click
      },
      'canvas-drag': (event) => {
        if (!this.from) return;
        event.preventDefaultAction = true;
        this.to = event.position;
        this.drawAbove();
      },
      'canvas-release': (event) => this.release(event),
      'canvas-click': (event) => {
        event.preventDefaultAction = true;
        if (event.quick) this.click(event);
      },
      'canvas-double-click': (event) => {
        event.preventDefaultAction = true;
      },
    };
  }

  release({ position }) {
    const { from } = this;
    this.from = this.to = null;
    if (!from || Math.hypot(position.x - from.x, position.y - from.y) < LEAST_PX) return;
    this.drawn = true; // the click that ends it selects nothing
    const corners = [[from.x, from.y], [position.x, from.y], [position.x, position.y], [from.x, position.y]];
    const ring = corners.map(([x, y]) => this.view.pointAt(new window.OpenSeadragon.Point(x, y)));
    this.draw();
    this.labels.inside([[[...ring, ring[0]]]]);
  }

  click({ position, originalEvent }) {
    if (this.drawn) {
      this.drawn = false;
      return;
    }
    const place = this.view.pointAt(position);
    const { labels } = this;
    if (originalEvent?.shiftKey && labels.insideDrawn(place)) return;
    const cell = this.cellAt(place);
    if (!cell) {
      labels.select([]);
      return;
    }
    const same = ([column, row]) => column === cell[0] && row === cell[1];
    if (!originalEvent?.shiftKey) labels.select([cell]);
    else labels.select(labels.selected.some(same) ? labels.selected.filter((one) => !same(one)) : [...labels.selected, cell]);
  }

  cellAt([x, y]) {
    const { step, columns, rows } = this.labels.grid;
    const [column, row] = [Math.floor(x / step), Math.floor(y / step)];
    return column >= 0 && row >= 0 && column < columns && row < rows ? [column, row] : null;
  }

  /** [x, y, side] of a tile in level-0 pixels, as the server cuts it. */
  box([column, row]) {
    const { step, side } = this.labels.grid;
    return [Math.floor(column * step + 0.5), Math.floor(row * step + 0.5), side];
  }

  /** Bring a tile into view, at a size at which cells can be told. */
  goTo(cell) {
    const [x, y, side] = this.box(cell);
    const { clientHeight: height } = this.view.host;
    const share = (side * this.view.scale) / height;
    const where = { x: x + side / 2, y: y + side / 2 };
    if (share < SHOWN[0] || share > SHOWN[1]) where.scale = Math.min(CLOSEST, (WISHED * height) / side);
    this.view.show(where);
  }

  track(event) {
    if (!this.labels.active) return;
    const box = this.view.host.getBoundingClientRect();
    this.pointer = event.type === 'pointerleave' ? null : new window.OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
    this.drawAbove();
  }

  draw() {
    const shown = this.begin(this.canvas);
    if (shown) this.drawTiles(shown.context, shown.px);
    this.drawAbove();
  }

  drawAbove() {
    this.tell();
    const shown = this.begin(this.above);
    if (!shown) return;
    const { context, px, ratio } = shown;
    this.drawGrid(context, px);
    for (const cell of this.labels.selected) this.drawSelected(context, px, cell);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.from && this.to) this.drawRectangle(context);
    if (this.labels.selected.length === 1) this.drawChips(context, this.labels.selected[0]);
  }

  /** An empty canvas in level-0 coordinates, with how many of these a screen pixel is wide; null if nothing is shown. */
  begin(canvas) {
    const { clientWidth: width, clientHeight: height } = this.view.osd.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [w, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== w || canvas.height !== high) Object.assign(canvas, { width: w, height: high });
    const context = canvas.getContext('2d');
    context.resetTransform();
    context.clearRect(0, 0, w, high);
    if (!this.view.item || !this.view.slide || !this.labels.active || !this.labels.grid) return null;
    const place = this.view.placement(ratio);
    context.setTransform(...place.matrix);
    return { context, px: ratio / place.scale, ratio };
  }

  /** The tiles around the pointer, faintly. */
  drawGrid(context, px) {
    const cell = this.pointer && this.cellAt(this.view.pointAt(this.pointer));
    if (!cell || this.labels.grid.side / px < TINY_PX) return;
    context.lineWidth = px;
    for (const [dark, shift] of [['rgb(0 0 0 / 35%)', 0], ['rgb(255 255 255 / 75%)', px]]) {
      context.strokeStyle = dark;
      for (let row = cell[1] - AROUND; row <= cell[1] + AROUND; row += 1)
        for (let column = cell[0] - AROUND; column <= cell[0] + AROUND; column += 1) {
          if (column < 0 || row < 0 || column >= this.labels.grid.columns || row >= this.labels.grid.rows) continue;
          const near = Math.max(Math.abs(column - cell[0]), Math.abs(row - cell[1]));
          const [x, y, side] = this.box([column, row]);
          context.globalAlpha = near ? 0.5 / near : 1;
          context.strokeRect(x + shift, y + shift, side - 2 * shift, side - 2 * shift);
        }
    }
    context.globalAlpha = 1;
  }

  drawTiles(context, px) {
    const [left, top, width, height] = this.view.region();
    const { side } = this.labels.grid;
    const line = Math.max(2, Math.min(4.5, side / px / 14)) * px;
    const palette = this.labels.classes.map(({ color }) => `rgb(${color.join(' ')})`);
    const gap = side / px < TINY_PX ? 0 : px;
    for (const [key, classes] of this.labels.tiles) {
      const [x, y] = this.box(key.split(',').map(Number));
      if (x > left + width || y > top + height || x + side < left || y + side < top) continue;
      const colors = classes.length ? classes.map((number) => palette[number]) : [`rgb(${NONE.join(' ')})`];
      if (side / px >= SMALL_PX) {
        this.frame(context, x, y, side, line, px, colors, !classes.length);
        continue;
      }
      context.globalAlpha = SMALL_ALPHA;
      const band = (side - 2 * gap) / colors.length;
      colors.forEach((color, i) => {
        context.fillStyle = color;
        context.fillRect(x + gap + i * band, y + gap, band, side - 2 * gap);
      });
      context.globalAlpha = 1;
    }
  }

  /** A frame just inside of a tile, in turn in the colours of its classes. */
  frame(context, x, y, side, line, px, colors, none) {
    const inner = line / 2 + px;
    const box = [x + inner, y + inner, side - 2 * inner, side - 2 * inner];
    context.setLineDash([]);
    context.lineWidth = line + 2 * px;
    context.strokeStyle = 'rgb(255 255 255 / 85%)';
    context.strokeRect(...box);
    context.lineWidth = line;
    const dash = Math.max(DASH_PX * px, side / 12);
    colors.forEach((color, i) => {
      if (none) context.setLineDash([4 * px, 4 * px]);
      else if (colors.length > 1) context.setLineDash([dash, dash * (colors.length - 1)]);
      context.lineDashOffset = -i * dash;
      context.strokeStyle = color;
      context.strokeRect(...box);
    });
    context.setLineDash([]);
    context.lineDashOffset = 0;
  }

  drawSelected(context, px, cell) {
    const [x, y, side] = this.box(cell);
    for (const [color, line] of [['rgb(0 0 0 / 80%)', 5], ['#ffc400', 3]]) {
      context.strokeStyle = color;
      context.lineWidth = line * px;
      context.strokeRect(x - 1.5 * px, y - 1.5 * px, side + 3 * px, side + 3 * px);
    }
  }

  drawRectangle(context) {
    const { from, to } = this;
    context.setLineDash([6, 4]);
    for (const [color, line] of [['#fff', 4], ['#0b6b83', 2]]) {
      context.strokeStyle = color;
      context.lineWidth = line;
      context.strokeRect(Math.min(from.x, to.x), Math.min(from.y, to.y), Math.abs(to.x - from.x), Math.abs(to.y - from.y));
    }
    context.setLineDash([]);
  }

  /** What is ticked of the selected tile, in words above it. */
  drawChips(context, cell) {
    const classes = this.labels.classesOf(cell);
    if (!classes) return;
    const [x, y, side] = this.box(cell);
    const [a, b, c, d, e, f] = this.view.placement().matrix;
    const corners = [[x, y], [x + side, y], [x, y + side], [x + side, y + side]].map(([u, v]) => [a * u + c * v + e, b * u + d * v + f]);
    let left = Math.min(...corners.map(([u]) => u));
    const top = Math.max(2, Math.min(...corners.map(([, v]) => v)) - CHIP_PX - 7);
    const words = classes.length ? classes.map((number) => [this.labels.classes[number].name, this.labels.classes[number].color]) : [['none of them', NONE]];
    context.font = '600 12px system-ui, sans-serif';
    for (const [text, color] of words) {
      const width = context.measureText(text).width + 24;
      context.fillStyle = 'rgb(255 255 255 / 94%)';
      context.beginPath();
      context.roundRect(left, top, width, CHIP_PX + 2, 5);
      context.fill();
      context.fillStyle = `rgb(${color.join(' ')})`;
      context.fillRect(left + 5, top + 4, 11, 11);
      context.fillStyle = '#17222d';
      context.fillText(text, left + 20, top + 14);
      left += width + 4;
    }
  }

  /** The line above the slide: what is selected, and why. */
  tell() {
    const { active, selected, proposal, set, status } = this.labels;
    this.pill.hidden = !active || !set || !status;
    if (this.pill.hidden) return;
    const many = selected.length > 1 ? `${selected.length} tiles` : '';
    const why = proposal ? proposal.reason[0].toUpperCase() + proposal.reason.slice(1).replace(/ \([^)]*\)$/, '') : many || (selected.length ? 'Tile' : 'Click a tile, or press Enter for a proposal');
    const keys = selected.length ? `1–${Math.min(9, set.classes.length)} tick · 0 none · Enter next` : '';
    const text = [why, keys].filter(Boolean).join(' · ');
    if (this.pill.textContent !== text) this.pill.textContent = text;
  }

  destroy() {
    this.draw = null;
    this.canvas.remove();
    this.above.remove();
    this.pill.remove();
    for (const name of ['pointermove', 'pointerleave']) this.view.host.removeEventListener(name, this.hover);
  }
}
