// Two views of one slide that show the same place: the one that is moved takes the other along before it is drawn.

export class LinkedViews {
  constructor(views) {
    this.views = views;
    this.leader = views[0];
    this.ends = [];
    views.forEach((view, i) => {
      const lead = () => this.lead(view);
      // Whoever is touched leads; what the other one was still doing by itself ends with its first step.
      for (const kind of ['pointerdown', 'wheel']) this.listen(view.stage, kind, lead);
      view.osd.addHandler('viewport-change', () => this.leader === view && this.follow(view, views[1 - i]));
      view.osd.addHandler('resize', () => this.alignSoon());
    });
    this.listen(document, 'keydown', () => this.lead(views[0])); // keys are the first one's
  }

  listen(target, kind, act) {
    const options = { capture: true, passive: true };
    target.addEventListener(kind, act, options);
    this.ends.push(() => target.removeEventListener(kind, act, options));
  }

  lead(view) {
    this.leader = view;
  }

  /** Put the other view where the first is and draw it at once: no frame shows two places. */
  follow(view, other) {
    if (!view.item || !other.item) return;
    const { viewport: from } = view.osd;
    const { viewport: to, world } = other.osd;
    to.setRotation(from.getRotation(true), true);
    to.zoomTo(from.getZoom(true), null, true);
    to.panTo(from.getCenter(true), true);
    to.update();
    world.update(true);
    world.draw();
    other.osd.raiseEvent('update-viewport', {});
    other.osd.navigator?.update(to);
  }

  /** Once both have taken up a new size. */
  alignSoon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => (this.frame = requestAnimationFrame(() => this.align())));
  }

  /** Bring the second to where the first is, whatever led before. */
  align() {
    this.lead(this.views[0]);
    this.follow(...this.views);
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    for (const end of this.ends) end();
  }
}
