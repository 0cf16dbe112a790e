// Reviewing with mouse, pen or finger: a click finds the region under it, a drag paints with the brush or erases; and
// the picture of it over the slide.

const COLOR = [255, 196, 0]; // of what is selected: none of the usual classes has it
const LEAST_PX = 2; // between points of a stroke
const MOST_POINTS = 4000;

export const TOOLS = { region: 'Click on a region', brush: 'Paint', eraser: 'Take back' };

export class ReviewTools {
  constructor(view, review) {
    Object.assign(this, { view, review });
    this.tool = 'region';
    this.value = 0; // class that the brush paints
    this.diameter = 100; // of brush and eraser, µm
    this.canvas = document.createElement('canvas');
    this.canvas.className = 'lpd-shapes lpd-review-canvas';
    view.osd.canvas.append(this.canvas);
    this.draw = this.draw.bind(this);
    view.osd.addHandler('update-viewport', () => this.draw?.());
    view.osd.addHandler('resize', () => this.draw?.());
    for (const [name, act] of Object.entries(this.handlers)) view.osd.addHandler(name, (event) => this.review.active && act(event));
    this.hover = (event) => this.track(event);
    for (const name of ['pointermove', 'pointerleave']) view.host.addEventListener(name, this.hover);
    this.setKeys();
  }

  /** Keys mean this while reviewing, and what they meant before otherwise. */
  setKeys() {
    const { others } = this.view.keys;
    const set = (key, act) => {
      const before = others.get(key);
      others.set(key, (event) => (this.review.active && act(event)) || before?.(event));
    };
    others.set('v', () => (this.review.active ? this.review.leave() : this.review.enter()) ?? true);
    set('a', () => this.review.judge() ?? true);
    for (let digit = 1; digit <= 9; digit += 1) set(String(digit), () => this.choose(digit - 1));
    set('c', () => this.use('region'));
    set('d', () => this.use('brush'));
    set('x', () => this.use('eraser'));
    set('[', () => this.resize(1 / 1.25));
    set(']', () => this.resize(1.25));
    set('Ctrl+z', (event) => (event.shiftKey ? this.review.redo() : this.review.undo()) && true);
    set('Ctrl+y', () => this.review.redo() && true);
    set('Escape', () => (this.selected ? this.select(null) : this.review.leave()) ?? true);
  }

  begin() {
    this.use(this.tool);
  }

  end() {
    this.points = null;
    this.select(null);
    this.view.host.classList.remove('lpd-painting');
  }

  use(tool) {
    this.tool = tool;
    this.points = null;
    if (tool !== 'region') this.selected = null;
    this.view.host.classList.toggle('lpd-painting', tool !== 'region');
    this.changed();
    return true;
  }

  /** Choose a class: the selected region gets it, or the brush paints it. */
  choose(value) {
    if (value >= this.review.classes.length) return false;
    this.value = value;
    if (this.selected) this.review.judge(value);
    else if (this.tool !== 'brush') this.use('brush');
    this.changed();
    return true;
  }

  resize(factor) {
    this.diameter = Math.max(2, Math.min(4000, this.diameter * factor));
    this.changed();
    return true;
  }

  select(found) {
    this.selected = found;
    this.picture = null;
    if (found)
      stencil(found.picture).then((picture) => {
        if (this.selected === found) this.picture = picture;
        this.draw?.();
      });
    this.changed();
  }

  changed() {
    this.draw();
    this.review.panel?.render();
  }

  get handlers() {
    const painting = () => this.tool !== 'region';
    return {
      'canvas-press': ({ position }) => {
        if (!painting()) return;
        this.points = [this.view.pointAt(position)];
        this.last = position;
        this.draw();
      },
      'canvas-drag': (event) => {
        if (!painting()) return;
        event.preventDefaultAction = true;
        if (this.points) this.extend(event.position);
      },
      'canvas-release': () => this.points && this.finish(),
      'canvas-click': (event) => {
        event.preventDefaultAction = true;
        if (!painting() && event.quick) this.review.select(...this.view.pointAt(event.position));
      },
      'canvas-double-click': (event) => {
        event.preventDefaultAction = true;
      },
    };
  }

  extend(position) {
    if (Math.hypot(position.x - this.last.x, position.y - this.last.y) < LEAST_PX || this.points.length >= MOST_POINTS) return;
    this.last = position;
    this.points.push(this.view.pointAt(position));
    this.draw();
  }

  /** Send a stroke; it stays on the screen until the layer shows it. */
  finish() {
    const points = this.points.map((place) => place.map((value) => Number(value.toFixed(2))));
    const stroke = { points, diameter: this.diameter, color: this.color };
    this.points = null;
    this.sent = [...(this.sent ?? []), stroke];
    this.review.paint(points, this.diameter / 2, this.tool === 'eraser' ? null : this.value).then(() => {
      this.sent = this.sent.filter((one) => one !== stroke);
      this.draw?.();
    });
  }

  get color() {
    return this.tool === 'eraser' ? [255, 255, 255] : this.review.layers.reviewColors[this.value] ?? COLOR;
  }

  track(event) {
    if (!this.review.active) return;
    const box = this.view.host.getBoundingClientRect();
    this.pointer = event.type === 'pointerleave' ? null : { x: event.clientX - box.left, y: event.clientY - box.top };
    if (this.tool !== 'region') this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.view.osd.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const context = this.canvas.getContext('2d');
    context.resetTransform();
    context.clearRect(0, 0, w, h);
    if (!this.view.item || !this.view.slide || !this.review.active) return;
    const place = this.view.placement(ratio);
    context.setTransform(...place.matrix);
    if (this.picture && this.selected) context.drawImage(this.picture, ...this.selected.box);
    for (const stroke of this.sent ?? []) this.paint(context, stroke);
    if (this.points) this.paint(context, { points: this.points, diameter: this.diameter, color: this.color });
    if (this.pointer && this.tool !== 'region') this.ring(context, place, ratio);
  }

  paint(context, { points, diameter, color: [red, green, blue] }) {
    context.strokeStyle = `rgb(${red} ${green} ${blue} / 60%)`;
    context.lineWidth = diameter / this.view.slide.mpp;
    context.lineCap = context.lineJoin = 'round';
    context.beginPath();
    points.forEach(([x, y], i) => context[i ? 'lineTo' : 'moveTo'](x, y));
    if (points.length === 1) context.lineTo(points[0][0] + 0.01, points[0][1]);
    context.stroke();
  }

  /** The brush under the pointer, as large as it paints. */
  ring(context, place, ratio) {
    context.resetTransform();
    const radius = (this.diameter / 2 / this.view.slide.mpp) * place.scale;
    for (const [color, line] of [['rgb(0 0 0 / 75%)', 3], ['#fff', 1.3]]) {
      context.strokeStyle = color;
      context.lineWidth = line * ratio;
      context.beginPath();
      context.arc(this.pointer.x * ratio, this.pointer.y * ratio, Math.max(1, radius), 0, 2 * Math.PI);
      context.stroke();
    }
  }

  destroy() {
    this.draw = null;
    this.canvas.remove();
    for (const name of ['pointermove', 'pointerleave']) this.view.host.removeEventListener(name, this.hover);
  }
}

/** A picture of 1 inside and 2 along the border as a translucent one. */
async function stencil(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, image.width, image.height);
  const pixels = new Uint32Array(data.data.buffer);
  const [red, green, blue] = COLOR;
  const colored = (alpha) => ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const colors = [0, colored(110), colored(255)];
  for (let i = 0; i < pixels.length; i += 1) pixels[i] = colors[pixels[i] & 255];
  context.putImageData(data, 0, 0);
  return canvas;
}
