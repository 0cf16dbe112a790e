// Everything about annotations in one hand: what is drawn, its picture on the slide, its tools, its part of the controls.

import { ShapeCanvas } from './shape_canvas.js';
import { ShapePanel } from './shape_panel.js';
import { Shapes } from './shapes.js';
import { ShapeTools } from './shape_tools.js';

export class Drawing {
  /** `classes` tells by which classes regions may be named; `onSegment` is asked to segment a feature's area, `onChange` told. */
  constructor(view, { classes, onTrouble, onSegment, onTool, onChange }) {
    this.onChange = onChange;
    this.shapes = new Shapes({ onChange: () => this.render(), onTrouble: (error) => onTrouble(error.message ?? String(error)) });
    this.canvas = new ShapeCanvas(view, this.shapes);
    this.panel = new ShapePanel(this.shapes, view, {
      classes,
      onTrouble,
      onSegment,
      onVisible: (visible) => this.show(visible),
      onKeep: () => this.tools.keepMeasured(),
    });
    this.tools = new ShapeTools(view, this.shapes, this.canvas, {
      classification: () => this.lastClassification, // the next region is probably one more of the same
      onTool: (name) => {
        this.panel.showMeasured(this.canvas.draft?.id !== undefined);
        onTool(name);
      },
      onMark: () => this.panel.bringEditor(),
    });
  }

  /** Leave the pointer to others, or have it again. */
  pause(paused) {
    if (paused) this.tools.choose('hand');
    if (paused) this.shapes.select(null);
    this.tools.paused = paused;
  }

  open(slide) {
    this.lastClassification = undefined;
    return this.shapes.open(slide);
  }

  /** There is no slide now. */
  close() {
    this.tools.choose('hand');
    this.panel.element.hidden = true;
  }

  show(visible) {
    this.canvas.visible = visible;
    this.canvas.schedule();
  }

  render() {
    const selected = this.shapes.get(this.shapes.selected);
    this.lastClassification = selected?.properties?.classification ?? this.lastClassification;
    this.canvas?.schedule();
    this.panel?.render();
    this.tools?.render();
    this.onChange();
  }

  destroy() {
    this.shapes.destroy();
    this.canvas.destroy();
    this.tools.destroy();
  }
}
