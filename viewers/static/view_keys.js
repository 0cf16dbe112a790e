// Keys of the viewer, also while the pointer is elsewhere on the page, but never while somebody types.

const STEP_PX = 90;

export class ViewKeys {
  constructor(view, onToggleMask) {
    this.view = view;
    this.onToggleMask = onToggleMask;
    this.others = new Map(); // what tools add: key -> act, which answers true if it did something
    this.listen = (event) => this.press(event);
    document.addEventListener('keydown', this.listen);
  }

  press(event) {
    const { view } = this;
    const typing = event.target.closest?.('input:not([type=range], [type=checkbox]), select, textarea, [contenteditable]');
    const elsewhere = !view.stage.offsetParent && !document.fullscreenElement;
    if (typing || elsewhere || !view.item || event.altKey) return;
    const name = event.key.length === 1 && (event.ctrlKey || event.metaKey) ? `Ctrl+${event.key.toLowerCase()}` : event.key;
    if (this.others.get(name)?.(event)) {
      event.preventDefault();
      return;
    }
    const act = name.startsWith('Ctrl+') ? null : this.acts[name] ?? this.acts[name.toLowerCase()];
    if (!act || (event.target.type === 'range' && name.startsWith('Arrow'))) return;
    event.preventDefault();
    act();
    view.osd.viewport.applyConstraints();
  }

  get acts() {
    const { view } = this;
    const { viewport } = view.osd;
    const pan = (x, y) => viewport.panBy(viewport.deltaPointsFromPixels(new window.OpenSeadragon.Point(x, y)));
    return {
      ArrowLeft: () => pan(-STEP_PX, 0),
      ArrowRight: () => pan(STEP_PX, 0),
      ArrowUp: () => pan(0, -STEP_PX),
      ArrowDown: () => pan(0, STEP_PX),
      '+': () => view.zoomBy(1.6),
      '=': () => view.zoomBy(1.6),
      '-': () => view.zoomBy(1 / 1.6),
      0: () => viewport.goHome(),
      r: () => view.turn(90),
      R: () => view.turn(-90),
      f: () => view.toggleFull(),
      m: this.onToggleMask,
    };
  }

  destroy() {
    document.removeEventListener('keydown', this.listen);
  }
}
