// The slide itself: OpenSeadragon with our own scale bar, readout, buttons and keys.

import { count, h, icon, length, trim } from './dom.js';

const FIRST_LEVEL = 8; // below it a slide is smaller than one tile
const BAR_PX = 130;
const STEPS = [1, 2, 5];

export class SlideView {
  constructor(stage, { onToggleMask, classAt }) {
    this.stage = stage;
    this.slide = null;
    this.classAt = classAt;
    this.host = h('div', { class: 'lpd-osd', tabIndex: 0, 'aria-label': 'Slide' });
    this.bar = h('div', { class: 'lpd-scalebar', hidden: true }, h('span'), h('i'));
    this.readout = h('div', { class: 'lpd-readout', hidden: true });
    this.message = h('div', { class: 'lpd-stage-message', hidden: true });
    stage.append(this.host, this.tools(onToggleMask), this.bar, this.readout, this.message);
    this.osd = window.OpenSeadragon({
      element: this.host,
      showNavigationControl: false,
      showNavigator: true,
      navigatorPosition: 'TOP_RIGHT',
      navigatorAutoFade: false,
      navigatorWidth: '168px',
      navigatorHeight: '126px',
      animationTime: 0.35,
      springStiffness: 9,
      visibilityRatio: 0.35,
      minZoomImageRatio: 0.6,
      maxZoomPixelRatio: 8,
      zoomPerScroll: 1.35,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      imageLoaderLimit: 6,
      maxImageCacheCount: 400,
      timeout: 60000,
      drawer: ['canvas'],
      crossOriginPolicy: false,
    });
    this.osd.addHandler('canvas-key', (event) => {
      event.preventDefaultAction = true; // our own keys below also work while the pointer is elsewhere
    });
    this.osd.addHandler('update-viewport', () => this.describe());
    this.osd.addHandler('resize', () => this.describe());
    this.pointer = null;
    this.host.addEventListener('pointermove', (event) => this.track(event));
    this.host.addEventListener('pointerleave', () => this.track(null));
    this.onKey = (event) => this.key(event, onToggleMask);
    document.addEventListener('keydown', this.onKey);
  }

  tools(onToggleMask) {
    const button = (name, title, act) => h('button', { type: 'button', title, 'aria-label': title, onclick: act }, icon(name));
    this.eye = button('eye', 'Show or hide the mask (m)', onToggleMask);
    return h(
      'div',
      { class: 'lpd-tools' },
      button('plus', 'Zoom in (+)', () => this.zoomBy(1.6)),
      button('minus', 'Zoom out (−)', () => this.zoomBy(1 / 1.6)),
      button('home', 'Whole slide (0)', () => this.osd.viewport?.goHome()),
      button('full', 'Full screen (f)', () => this.toggleFull()),
      this.eye,
    );
  }

  showMaskState(on) {
    this.eye.setAttribute('aria-pressed', on);
  }

  /** Open a slide as the API describes it; resolves when its first tile can be drawn. */
  open(slide) {
    this.slide = slide;
    this.say(null);
    const source = new window.OpenSeadragon.TileSource({
      width: slide.width,
      height: slide.height,
      tileSize: slide.tile_px,
      tileOverlap: 0,
      minLevel: Math.min(FIRST_LEVEL, slide.levels - 1),
      maxLevel: slide.levels - 1,
    });
    source.getTileUrl = (level, x, y) => `${slide.tiles}/${level}/${x}_${y}.jpeg?f=${encodeURIComponent(slide.fingerprint)}`;
    return new Promise((resolve) => {
      this.osd.addOnceHandler('open', () => {
        this.describe();
        resolve();
      });
      this.osd.open(source);
    });
  }

  close(message) {
    this.slide = null;
    this.osd.close();
    this.bar.hidden = this.readout.hidden = true;
    this.say(message);
  }

  say(message) {
    this.message.hidden = !message;
    this.stage.classList.toggle('lpd-empty', Boolean(message));
    this.message.replaceChildren(...(message ? [].concat(message) : []));
  }

  /** Take over what a person said about the slide's resolution. */
  update(slide) {
    this.slide = slide;
    this.describe();
  }

  /** The visible part of the slide as [x, y, width, height] in level-0 pixels; may reach beyond the slide. */
  region() {
    const bounds = this.item?.viewportToImageRectangle(this.osd.viewport.getBounds(true).getBoundingBox());
    return bounds && [bounds.x, bounds.y, bounds.width, bounds.height].map(Math.round);
  }

  get item() {
    return this.osd.world.getItemAt(0);
  }

  /** Screen (CSS) pixels per level-0 pixel. */
  get scale() {
    return this.item ? this.item.viewportToImageZoom(this.osd.viewport.getZoom(true)) : 0;
  }

  zoomBy(factor) {
    this.osd.viewport?.zoomBy(factor);
    this.osd.viewport?.applyConstraints();
  }

  toggleFull() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.stage.requestFullscreen?.().catch(() => undefined);
  }

  key(event, onToggleMask) {
    const typing = event.target.closest?.('input, select, textarea, [contenteditable]');
    const elsewhere = !this.stage.offsetParent && !document.fullscreenElement;
    if (typing || elsewhere || !this.item || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 90;
    const pan = (x, y) => this.osd.viewport.panBy(this.osd.viewport.deltaPointsFromPixels(new window.OpenSeadragon.Point(x, y)));
    const acts = {
      ArrowLeft: () => pan(-step, 0),
      ArrowRight: () => pan(step, 0),
      ArrowUp: () => pan(0, -step),
      ArrowDown: () => pan(0, step),
      '+': () => this.zoomBy(1.6),
      '=': () => this.zoomBy(1.6),
      '-': () => this.zoomBy(1 / 1.6),
      0: () => this.osd.viewport.goHome(),
      f: () => this.toggleFull(),
      m: onToggleMask,
    };
    const act = acts[event.key] ?? acts[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act();
    this.osd.viewport.applyConstraints();
  }

  track(event) {
    if (!event) this.pointer = null;
    else {
      const box = this.host.getBoundingClientRect();
      this.pointer = new window.OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
    }
    this.describeReadout();
  }

  describe() {
    if (!this.item || !this.slide) return;
    this.describeBar();
    this.describeReadout();
  }

  describeBar() {
    const perPixel = (this.slide.mpp ?? 1) / this.scale;
    const widest = BAR_PX * perPixel;
    const power = 10 ** Math.floor(Math.log10(widest));
    const size = Math.max(...STEPS.map((step) => step * power).filter((value) => value <= widest));
    this.bar.hidden = false;
    this.bar.firstChild.textContent = this.slide.mpp ? length(size) : `${count(size)} px`;
    this.bar.lastChild.style.width = `${size / perPixel}px`;
  }

  describeReadout() {
    if (!this.item || !this.slide) return;
    const parts = [];
    if (this.pointer) {
      const { x, y } = this.item.viewerElementToImageCoordinates(this.pointer);
      const inside = x >= 0 && y >= 0 && x < this.slide.width && y < this.slide.height;
      if (inside) parts.push(this.classAt(x, y), `x ${count(Math.floor(x))}  y ${count(Math.floor(y))}`);
    }
    if (this.slide.mpp) {
      const mpp = this.slide.mpp / this.scale;
      parts.push(`${trim(mpp)} µm/px`, `${trim(10 / mpp)}×`);
    }
    this.readout.replaceChildren(...parts.filter(Boolean).map((part) => h('span', {}, part)));
    this.readout.hidden = !this.readout.childElementCount;
  }

  destroy() {
    document.removeEventListener('keydown', this.onKey);
    this.osd.destroy();
  }
}
