// The slide itself: OpenSeadragon with our own scale bar, readout, buttons and keys.

import { count, h, icon, length, trim } from './dom.js';
import { ViewKeys } from './view_keys.js';

const FIRST_LEVEL = 8; // below it a slide is smaller than one tile
const BAR_PX = 130;
const STEPS = [1, 2, 5];
const MAGNIFICATIONS = [1.25, 2.5, 5, 10, 20, 40, 60];

export class SlideView {
  constructor(stage, { onToggleMask, classAt, onMove, onLink, onSnapshot, onLost }, navigator = true) {
    this.stage = stage;
    this.slide = null;
    this.classAt = classAt;
    this.host = h('div', { class: 'lpd-osd', tabIndex: 0, role: 'application', 'aria-label': 'Slide: arrows move, plus and minus zoom' });
    this.bar = h('div', { class: 'lpd-scalebar', hidden: true }, h('span'), h('i'));
    this.readout = h('div', { class: 'lpd-readout', hidden: true });
    this.zoom = this.buildZoom();
    this.message = h('div', { class: 'lpd-stage-message', hidden: true });
    stage.append(this.host, this.tools(onToggleMask, onLink, onSnapshot), this.bar, h('div', { class: 'lpd-corner' }, this.readout, this.zoom), this.message);
    this.osd = window.OpenSeadragon({
      element: this.host,
      showNavigationControl: false,
      showNavigator: navigator,
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
    this.osd.canvas.tabIndex = -1; // whoever walks with Tab stops at the host alone, which has a name
    this.osd.addHandler('canvas-key', (event) => {
      event.preventDefaultAction = true; // our own keys below also work while the pointer is elsewhere
    });
    this.osd.addHandler('update-viewport', () => {
      this.describe();
      if (this.item) onMove();
    });
    this.osd.addHandler('resize', () => this.describe());
    this.osd.addHandler('tile-load-failed', () => onLost?.());
    this.pointer = null;
    this.host.addEventListener('pointermove', (event) => this.track(event));
    this.host.addEventListener('pointerleave', () => this.track(null));
    this.keys = new ViewKeys(this, onToggleMask);
    if (onSnapshot) this.keys.others.set('s', () => onSnapshot() ?? true);
  }

  tools(onToggleMask, onLink, onSnapshot) {
    const button = (name, title, act) => h('button', { type: 'button', title, 'aria-label': title, onclick: act }, icon(name));
    this.eye = button('eye', 'Show or hide the mask (m)', onToggleMask);
    return h(
      'div',
      { class: 'lpd-tools' },
      button('plus', 'Zoom in (+)', () => this.zoomBy(1.6)),
      button('minus', 'Zoom out (−)', () => this.zoomBy(1 / 1.6)),
      button('home', 'Whole slide (0)', () => this.osd.viewport?.goHome()),
      button('turn', 'Turn by 90° (r, R the other way)', () => this.turn(90)),
      button('full', 'Full screen (f)', () => this.toggleFull()),
      onLink && button('link', 'Copy a link to this view', onLink),
      onSnapshot && button('camera', 'Save a picture of this view as PNG, with layers, legend and scale bar (s)', onSnapshot),
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
        this.osd.navigator?.updateSize(); // it may have been made before it had a place in the page
        this.describe();
        resolve();
      });
      this.osd.open(source);
    });
  }

  close(message) {
    this.slide = null;
    this.osd.close();
    this.bar.hidden = this.readout.hidden = this.zoom.hidden = true;
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

  /** Turn the slide clockwise. */
  turn(degrees) {
    this.osd.viewport?.setRotation(Math.round((this.osd.viewport.getRotation() + degrees) / 90) * 90);
  }

  /** Show the slide at a magnification, where 10× is 1 µm per screen pixel. */
  magnify(power) {
    if (this.slide?.mpp) this.show({ scale: (this.slide.mpp * power) / 10 });
  }

  /** Move to a view: centre in level-0 pixels, screen pixels per level-0 pixel, degrees; what is left out stays. */
  show({ x, y, scale, degrees }, immediately = false) {
    const { viewport } = this.osd;
    if (!this.item) return;
    if (degrees !== undefined) viewport.setRotation(degrees, immediately);
    if (scale) viewport.zoomTo(this.item.imageToViewportZoom(scale), null, immediately);
    if (x !== undefined) viewport.panTo(this.item.imageToViewportCoordinates(x, y), immediately);
    viewport.applyConstraints(immediately);
  }

  /** Show a box [x, y, width, height] of level-0 pixels with some space around it. */
  fit([x, y, width, height]) {
    const side = Math.max(width, height, 64) * 0.25;
    this.osd.viewport.fitBounds(this.item.imageToViewportRectangle(x - side, y - side, width + 2 * side, height + 2 * side));
  }

  /** The view as `show` takes it, to less than a screen pixel: whoever comes back finds the very same picture. */
  get where() {
    const { x, y } = this.item.viewportToImageCoordinates(this.osd.viewport.getCenter(true));
    return { x: Number(x.toFixed(2)), y: Number(y.toFixed(2)), scale: Number(this.scale.toPrecision(8)), degrees: this.osd.viewport.getRotation(true) };
  }

  /** How level-0 pixels lie on a canvas with `ratio` pixels per CSS pixel: an affine matrix, and what is simple of it. */
  placement(ratio = 1) {
    const { viewport } = this.osd;
    const at = (x, y) => viewport.pixelFromPoint(this.item.imageToViewportCoordinates(x, y, true), true);
    const [origin, right] = [at(0, 0), at(this.slide.width, 0)];
    const a = ((right.x - origin.x) / this.slide.width) * ratio;
    const b = ((right.y - origin.y) / this.slide.width) * ratio;
    const [x, y] = [origin.x * ratio, origin.y * ratio];
    return { x, y, scale: Math.hypot(a, b), turned: Math.abs(b) > 1e-9 || a < 0, matrix: [a, b, -b, a, x, y] };
  }

  /** Level-0 point under a point of the stage, in CSS pixels. */
  pointAt(position) {
    const { x, y } = this.item.viewerElementToImageCoordinates(position);
    return [x, y];
  }

  buildZoom() {
    const choice = h('select', { 'aria-label': 'Magnification', title: 'Go to a magnification (10× is 1 µm per screen pixel)' });
    choice.append(h('option', { value: '' }, ''), ...MAGNIFICATIONS.map((power) => h('option', { value: power }, `${power}×`)));
    choice.addEventListener('focus', () => {
      // The whole slide is the farthest view: what lies beyond it cannot be chosen.
      const least = this.item ? this.item.viewportToImageZoom(this.osd.viewport.getMinZoom()) : 0;
      for (const option of choice.options) option.disabled = Boolean(option.value) && Number(option.value) * this.slide?.mpp < 9.99 * least;
    });
    choice.addEventListener('change', () => {
      this.magnify(Number(choice.value));
      choice.value = '';
      this.host.focus();
    });
    return h('label', { class: 'lpd-zoom', hidden: true }, choice);
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
    const { px, text } = this.scaleBar();
    this.bar.hidden = false;
    this.bar.firstChild.textContent = text;
    this.bar.lastChild.style.width = `${px}px`;
  }

  /** How long the scale bar is in CSS pixels, and what it says. */
  scaleBar() {
    const perPixel = (this.slide.mpp ?? 1) / this.scale;
    const widest = BAR_PX * perPixel;
    const power = 10 ** Math.floor(Math.log10(widest));
    const size = Math.max(...STEPS.map((step) => step * power).filter((value) => value <= widest));
    return { px: size / perPixel, text: this.slide.mpp ? length(size) : `${count(size)} px` };
  }

  describeReadout() {
    if (!this.item || !this.slide) return;
    const parts = [];
    const { mpp } = this.slide;
    if (this.pointer) {
      const [x, y] = this.pointAt(this.pointer);
      const inside = x >= 0 && y >= 0 && x < this.slide.width && y < this.slide.height;
      if (inside) parts.push(this.classAt(x, y), `x ${count(Math.floor(x))}  y ${count(Math.floor(y))}`, mpp && `${count(x * mpp)}, ${count(y * mpp)} µm`);
    }
    if (mpp) parts.push(`${trim(mpp / this.scale)} µm/px`);
    this.readout.replaceChildren(...parts.filter(Boolean).map((part) => h('span', {}, part)));
    this.readout.hidden = !this.readout.childElementCount;
    this.zoom.hidden = !mpp;
    if (mpp) this.zoom.firstChild.firstChild.textContent = `${trim((10 * this.scale) / mpp)}×`;
  }

  destroy() {
    this.keys.destroy();
    this.osd.destroy();
  }
}
