// How the maps of both sides are coloured, and the map of where they differ.

import { api } from './api.js';
import { greyTile, GreyLayer } from './grey_layer.js';
import { differenceColors, rangeColors } from './prototype_colors.js';

const UNKNOWN = 255;
const ALL = [127, 254]; // nothing is shown below 0: such a place speaks against the prototype

export class CompareMaps {
  constructor(sides, controls) {
    this.sides = sides;
    this.controls = controls;
    this.difference = new GreyLayer(sides[0].view);
  }

  draw() {
    const { look } = this.controls;
    const differ = look.mode === 'difference';
    for (const side of this.sides) {
      side.heat.colour(rangeColors(this.rangeOf(side), look.threshold));
      side.heat.setOpacity(look.opacity);
      side.heat.setVisible(!differ);
      side.mask.setOpacity(0.5);
      side.showMask(look.mask);
    }
    this.difference.setVisible(differ);
    if (differ) this.drawDifference(look);
  }

  rangeOf({ index, about }) {
    return (this.controls.look.range === 'own' && index !== null && about?.ranges[index]) || ALL;
  }

  drawDifference(look) {
    const [left, right] = this.sides;
    if (left.index === null || right.index === null || !left.about || !right.about) {
      this.difference.clear();
      return;
    }
    const ids = [left, right].map((side) => [side.job.id, `prototype-${side.index}`]);
    const spans = this.sides.map((side) => this.rangeOf(side)).map(([low, high]) => high - low);
    this.difference.colour(differenceColors(Math.max(...spans), look.threshold / 4));
    this.difference.setOpacity(look.opacity);
    left.follow(this.difference, {
      key: String(ids),
      scale: Math.max(...this.sides.map((side) => side.job.scale * side.about.stride)),
      async tile(level, col, row, version) {
        const [one, two] = await Promise.all(ids.map(([id, layer]) => greyTile(api.resultTile(id, layer, level, col, row, version))));
        const values = one.values.map((value, i) => (value === UNKNOWN || two.values[i] === UNKNOWN ? UNKNOWN : (254 + two.values[i] - value) >> 1));
        return { ...one, values };
      },
    });
  }

  destroy() {
    this.difference.destroy();
  }
}
