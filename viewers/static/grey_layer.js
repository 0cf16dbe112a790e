// One layer over the slide: 8-bit tiles at the slide's own tile addresses, coloured here. Recolouring, thresholds,
// outlines, hiding a class and opacity touch no network; a growing result fetches only the visible tiles that changed.

const NOT_COMPUTED = 255;
const KEPT_TILES = 240;
const PARALLEL = 3; // leaves half of the browser's connections to the slide
const RETRY_MS = 2000;

export class GreyLayer {
  constructor(view) {
    this.view = view;
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'lpd-layer';
    view.osd.canvas.append(this.canvas);
    this.lut = new Uint32Array(256);
    this.lutVersion = 0;
    this.outline = false;
    this.fetches = 0;
    this.clear();
    this.draw = this.draw.bind(this);
    view.osd.addHandler('update-viewport', this.draw);
    view.osd.addHandler('resize', this.draw);
  }

  clear() {
    this.source = null;
    this.tiles = new Map(); // "level/col_row" -> {values, width, height, picture, lutVersion, stale}; oldest first
    this.loading = new Map();
    this.failed = new Map();
    this.rects = [];
    this.run = '';
    this.revision = 0;
    this.drawn = 0;
    this.generation = (this.generation ?? 0) + 1;
    this.schedule();
  }

  /**
   * Show a source of values: `key` tells it from others, `scale` is the width of a value in level-0 pixels, `tile(level,
   * col, row, version)` brings {values, width, height}. What is there to show arrives through `grow`.
   */
  show(source, slide) {
    if (this.source?.key === source.key) return;
    this.clear();
    this.source = source;
    this.slide = slide;
    // Deeper levels than the values' own resolution hold the same values, only larger: not worth fetching.
    const surplus = Math.floor(Math.log2(source.scale) + 1e-6);
    this.deepest = Math.max(Math.min(8, slide.levels - 1), slide.levels - 1 - Math.max(0, surplus));
    if (source.whole) this.grow([[0, 0, slide.width, slide.height]], 1, 'whole');
    this.schedule();
  }

  /** Level-0 rectangles [x, y, w, h] have been computed; tiles that show them are fetched again when visible. */
  grow(rects, revision, run) {
    if (this.run && run !== this.run) {
      this.tiles.clear();
      this.loading.clear();
      this.rects = [];
      this.generation += 1;
    }
    this.run = run;
    this.revision = revision;
    this.rects.push(...rects);
    for (const [key, tile] of this.tiles) if (meets(this.box(...parse(key)), rects)) tile.stale = true;
    if (rects.length) this.schedule();
  }

  /** Colours [r, g, b] or [r, g, b, a] by value; those without one stay clear. `outline` leaves outlines, or 'hatched'. */
  colour(colors, outline = false) {
    this.outline = outline;
    this.lut.fill(0);
    colors.forEach((color, value) => {
      if (color) this.lut[value] = (((color[3] ?? 255) << 24) | (color[2] << 16) | (color[1] << 8) | color[0]) >>> 0;
    });
    this.lutVersion += 1;
    this.schedule();
  }

  setOpacity(value) {
    this.canvas.style.opacity = value;
  }

  setVisible(visible) {
    this.hidden = !visible;
    this.canvas.style.visibility = visible ? '' : 'hidden';
    this.schedule();
  }

  /** Value at a level-0 point, from what has been fetched; null if unknown or not computed. */
  valueAt(x, y) {
    for (let level = this.deepest; this.source && level >= 0; level -= 1) {
      const size = this.span(level);
      const tile = this.tiles.get(`${level}/${Math.floor(x / size)}_${Math.floor(y / size)}`);
      if (!tile) continue;
      const step = size / this.slide.tile_px;
      const column = Math.min(tile.width - 1, Math.floor((x % size) / step));
      const row = Math.min(tile.height - 1, Math.floor((y % size) / step));
      const value = tile.values[row * tile.width + column];
      return value === NOT_COMPUTED ? null : value;
    }
    return null;
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw?.();
    });
  }

  draw() {
    const context = this.prepare();
    if (!this.source || this.hidden || !this.view.item || !this.rects.length) return;
    const place = this.view.placement(window.devicePixelRatio || 1);
    if (place.turned) context.setTransform(...place.matrix);
    const level = this.levelFor(place.scale);
    const wanted = [];
    this.drawn = 0;
    for (const [col, row] of this.visible(level)) {
      const key = `${level}/${col}_${row}`;
      const tile = this.tiles.get(key);
      if (tile) this.touch(key, tile);
      if (!tile || tile.stale) wanted.push(key);
      if (tile) this.paint(context, place, this.box(level, col, row), tile, 0, 0, tile.width, tile.height);
      else this.paintCoarser(context, place, level, col, row);
    }
    this.request(wanted);
  }

  prepare() {
    const { clientWidth, clientHeight } = this.view.osd.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
    const context = this.canvas.getContext('2d');
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    } else {
      context.resetTransform();
      context.clearRect(0, 0, width, height);
    }
    context.imageSmoothingEnabled = false; // a class is a class: no colours in between
    return context;
  }

  levelFor(scale) {
    const top = this.slide.levels - 1;
    return Math.max(0, Math.min(this.deepest, Math.ceil(top + Math.log2(scale) - 0.25)));
  }

  /** Level-0 pixels along one side of a tile. */
  span(level) {
    return this.slide.tile_px * 2 ** (this.slide.levels - 1 - level);
  }

  box(level, col, row) {
    const size = this.span(level);
    const [x, y] = [col * size, row * size];
    return [x, y, Math.min(size, this.slide.width - x), Math.min(size, this.slide.height - y)];
  }

  *visible(level) {
    const [x, y, width, height] = this.view.region();
    const size = this.span(level);
    const last = [Math.ceil(this.slide.width / size) - 1, Math.ceil(this.slide.height / size) - 1];
    for (let row = Math.max(0, Math.floor(y / size)); row <= Math.min(last[1], Math.floor((y + height) / size)); row += 1)
      for (let col = Math.max(0, Math.floor(x / size)); col <= Math.min(last[0], Math.floor((x + width) / size)); col += 1)
        if (meets(this.box(level, col, row), this.rects)) yield [col, row];
  }

  paint(context, place, [x, y, width, height], tile, sx, sy, sw, sh) {
    this.drawn += 1;
    if (place.turned) {
      const seam = 0.4 / place.scale; // turned edges are blended with what lies below: a hair of overlap closes them
      context.drawImage(this.picture(tile), sx, sy, sw, sh, x, y, width + seam, height + seam);
      return;
    }
    // Whole device pixels, so that neighbours meet without a gap or an overlap.
    const left = Math.round(place.x + x * place.scale);
    const top = Math.round(place.y + y * place.scale);
    const right = Math.round(place.x + (x + width) * place.scale);
    const bottom = Math.round(place.y + (y + height) * place.scale);
    if (right > left && bottom > top) context.drawImage(this.picture(tile), sx, sy, sw, sh, left, top, right - left, bottom - top);
  }

  /** Until a tile arrives, the part of a coarser one that shows the same place. */
  paintCoarser(context, place, level, col, row) {
    const box = this.box(level, col, row);
    for (let up = 1; level - up >= 0; up += 1) {
      const [c, r] = [col >> up, row >> up];
      const tile = this.tiles.get(`${level - up}/${c}_${r}`);
      if (!tile) continue;
      const step = this.span(level - up) / this.slide.tile_px;
      const [x, y] = this.box(level - up, c, r);
      this.paint(context, place, box, tile, (box[0] - x) / step, (box[1] - y) / step, box[2] / step, box[3] / step);
      return;
    }
  }

  picture(tile) {
    if (tile.lutVersion === this.lutVersion) return tile.picture;
    tile.picture ??= Object.assign(document.createElement('canvas'), { width: tile.width, height: tile.height });
    const context = tile.picture.getContext('2d');
    const image = context.createImageData(tile.width, tile.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i += 1) pixels[i] = this.lut[tile.values[i]];
    if (this.outline) hollow(pixels, tile.values, tile.width, tile.height, this.outline === 'hatched');
    context.putImageData(image, 0, 0);
    tile.lutVersion = this.lutVersion;
    return tile.picture;
  }

  touch(key, tile) {
    this.tiles.delete(key);
    this.tiles.set(key, tile);
  }

  request(keys) {
    this.wanted = keys.filter((key) => !this.loading.has(key) && !(this.failed.get(key) > performance.now()));
    while (this.loading.size < PARALLEL && this.wanted.length) this.load(this.wanted.shift());
  }

  async load(key) {
    const { generation, revision } = this;
    this.loading.set(key, revision);
    try {
      const tile = await this.source.tile(...parse(key), `${this.run}-${revision}`);
      if (generation !== this.generation) return;
      this.fetches += 1;
      const stale = revision < this.revision && meets(this.box(...parse(key)), this.rects.slice(-(this.revision - revision)));
      this.touch(key, { ...tile, stale, lutVersion: -1 });
      if (this.view.pointer) this.view.describeReadout(); // what lies under a resting pointer may have changed
      while (this.tiles.size > KEPT_TILES) this.tiles.delete(this.tiles.keys().next().value);
    } catch {
      this.failed.set(key, performance.now() + RETRY_MS);
      setTimeout(() => this.schedule(), RETRY_MS + 50);
    } finally {
      if (generation === this.generation) {
        this.loading.delete(key);
        this.schedule();
      }
    }
  }

  destroy() {
    this.draw = null;
    this.clear();
    this.canvas.remove();
  }
}

/** The values of an 8-bit grey tile. */
export async function greyTile(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`tile answered ${response.status}`);
  // No colour management and no alpha: the grey value is the class.
  const bitmap = await createImageBitmap(await response.blob(), { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { width, height } = bitmap;
  const pixels = context.getImageData(0, 0, width, height).data;
  const values = new Uint8Array(width * height);
  for (let i = 0; i < values.length; i += 1) values[i] = pixels[4 * i];
  bitmap.close();
  return { values, width, height };
}

/** Keep only what lies within two values of another class, or of nothing, and every eighth slanting line if `hatched`; a tile's own edge is no border. */
function hollow(pixels, values, width, height, hatched) {
  const inner = new Uint8Array(values.length);
  for (let y = 0; y < height; y += 1)
    for (let x = 0; x < width; x += 1) {
      const at = y * width + x;
      const value = values[at];
      let same = true;
      for (let reach = 1; same && reach <= 2; reach += 1)
        same =
          (x < reach || values[at - reach] === value) &&
          (x >= width - reach || values[at + reach] === value) &&
          (y < reach || values[at - reach * width] === value) &&
          (y >= height - reach || values[at + reach * width] === value);
      inner[at] = same && !(hatched && (x + y) % 8 === 0) ? 1 : 0;
    }
  for (let i = 0; i < pixels.length; i += 1) if (inner[i]) pixels[i] = 0;
}

const parse = (key) => key.split(/[/_]/).map(Number);

const meets = ([x, y, width, height], rects) =>
  rects.some(([rx, ry, rw, rh]) => rx < x + width && ry < y + height && rx + rw > x && ry + rh > y);
