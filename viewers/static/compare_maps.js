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
    this.controls.say([differ ? '' : this.rangeWords(), this.words(differ)].filter(Boolean).join(' '));
    this.difference.setVisible(differ);
    if (differ) this.drawDifference(look);
  }

  rangeOf({ index, about }) {
    return (this.controls.look.range === 'own' && index !== null && about?.ranges[index]) || ALL;
  }

  /** Values that the colours begin and end with. */
  rangeWords() {
    const parts = this.sides.filter(({ index, about }) => index !== null && about).map((side) => {
      const [low, high] = this.rangeOf(side).map((byte) => side.wordsFor(byte));
      return `${side.name} ${side.about.unit === 'cosine' ? 'cosine ' : ''}${low} to ${high.replace('logit ', '')}`;
    });
    return parts.length ? `Low to high: ${parts.join(', ')}.` : '';
  }

  /** What has to be said of the maps: that there is no difference, or that they are not cosines to prototypes. */
  words(differ) {
    if (differ && this.sides.every(({ about }) => about) && this.sides.some(({ index }) => index === null)) return 'There is nothing to subtract: only one of the two models has this class.';
    const linear = this.sides.filter(({ about }) => about?.unit === 'logit');
    if (!linear.length) return '';
    const { limit } = linear[0].about;
    const whose = linear.length === 2 ? 'Both models have' : `The ${linear[0].name} model has`;
    const what = `${whose} a linear head and no prototypes: its maps are plain class activation maps (CAM), logits from −${limit} to ${limit}.`;
    return differ && linear.length === 1 ? `${what} The other side's are cosines: their difference compares shares of two different ranges.` : what;
  }

  drawDifference(look) {
    const [left, right] = this.sides;
    if (left.index === null || right.index === null || !left.about || !right.about) {
      this.difference.clear();
      return;
    }
    const ids = this.shownIds();
    const spans = this.sides.map((side) => this.rangeOf(side)).map(([low, high]) => high - low);
    this.difference.colour(differenceColors(Math.max(...spans), look.threshold / 4));
    this.difference.setOpacity(look.opacity);
    if (this.difference.source?.key === String(ids)) return;
    this.difference.show(
      {
        key: String(ids),
        scale: Math.max(...this.sides.map((side) => side.job.scale * side.about.stride)),
        async tile(level, col, row, version) {
          const [one, two] = await Promise.all(ids.map(([id, layer]) => greyTile(api.resultTile(id, layer, level, col, row, version))));
          const values = one.values.map((value, i) => (value === UNKNOWN || two.values[i] === UNKNOWN ? UNKNOWN : (254 + two.values[i] - value) >> 1));
          return { ...one, values };
        },
      },
      left.slide,
    );
    this.growDifference();
  }

  /** Result and layer of either side's map. */
  shownIds() {
    return this.sides.map(({ job, index }) => [job?.id, `prototype-${index}`]);
  }

  /** A side has more maps than before: the difference, which needs both, follows either. */
  grew(side, rects) {
    if (this.difference.source?.key === String(this.shownIds())) this.growDifference(rects);
  }

  /** Tell the difference of what is there: `rects` are new; all of both sides are, where a result was begun anew. */
  growDifference(rects) {
    const known = this.sides.map((side) => side.progress).filter(Boolean);
    const run = known.map((progress) => progress.run).join('+');
    const revision = known.reduce((sum, progress) => sum + progress.revision, 0); // grows with either
    const whole = run !== this.difference.run;
    if (known.length) this.difference.grow(whole || !rects ? known.flatMap((progress) => progress.rects) : rects, revision, run);
  }

  destroy() {
    this.difference.destroy();
  }
}
