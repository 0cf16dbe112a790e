// A picture of the view as it is shown, layers, opacities and annotations included, with a legend, a scale bar and
// whose result it is. Made in the browser from the very canvases that are on screen.

import { moment, saveFile, trim } from './dom.js';
import { HEAT_RAMP } from './layers.js';

const [INK, SOFT] = ['#17222d', '#566472'];
const [PAD, LINE, FONT] = [12, 20, '12.5px system-ui, sans-serif'];
const USE = 'Research use only. Not a medical device.';
const HEAT_PX = 90;

/** Draws the picture; `entries` say what the layers mean, see `legendOf`. */
function drawSnapshot(view, { entries, lines }) {
  const { clientWidth: width, clientHeight: height } = view.osd.canvas;
  const ratio = window.devicePixelRatio || 1;
  const foot = layOut(entries, lines, width);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round((height + foot.height) * ratio)];
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  context.fillStyle = '#fff';
  context.fillRect(0, 0, width, height + foot.height);
  for (const part of shownCanvases(view)) {
    context.globalAlpha = Number(part.style.opacity || 1);
    context.drawImage(part, 0, 0, width, height);
  }
  context.globalAlpha = 1;
  scaleBar(context, view, height);
  foot.draw(context, height);
  return canvas;
}

/** The slide's canvas, then what lies over it, from below: never those of the mini-map. */
function shownCanvases(view) {
  const over = [...view.osd.canvas.querySelectorAll(':scope > canvas.lpd-layer, :scope > canvas.lpd-shapes')];
  return [view.osd.drawer.canvas, ...over].filter((part) => part.width && part.style.visibility !== 'hidden');
}

function scaleBar(context, view, height) {
  const { px, text } = view.scaleBar();
  const y = height - 18;
  context.font = FONT;
  const plate = Math.max(px, context.measureText(text).width) + 20;
  context.fillStyle = 'rgb(255 255 255 / 88%)';
  context.fillRect(PAD, y - 20, plate, 30);
  context.fillStyle = INK;
  context.fillRect(PAD + (plate - px) / 2, y, px, 3);
  context.textAlign = 'center';
  context.fillText(text, PAD + plate / 2, y - 6);
  context.textAlign = 'left';
}

/** Puts legend entries and lines of text into rows that fit, and knows how high they are. */
function layOut(entries, lines, width) {
  const measure = document.createElement('canvas').getContext('2d');
  measure.font = FONT;
  const marks = [];
  let [x, y] = [PAD, PAD];
  for (const entry of entries) {
    const wide = (entry.ramp ? HEAT_PX : 13) + 7 + measure.measureText(entry.text).width;
    if (x > PAD && x + wide > width - PAD) [x, y] = [PAD, y + LINE];
    marks.push({ ...entry, x, y });
    x += wide + 18;
  }
  if (entries.length) y += LINE + 4;
  const texts = lines.flatMap((line) => wrapped(measure, line, width - 2 * PAD)).map((text, i) => ({ text, y: y + i * LINE }));
  const draw = (context, top) => {
    context.font = FONT;
    for (const mark of marks) drawMark(context, mark, top);
    context.fillStyle = SOFT;
    for (const { text, y: at } of texts) context.fillText(text, PAD, top + at + 12);
  };
  return { height: y + texts.length * LINE + PAD - 4, draw };
}

function drawMark(context, { x, y, color, ramp, outline, text }, top) {
  const wide = ramp ? HEAT_PX : 13;
  if (ramp) {
    const gradient = context.createLinearGradient(x, 0, x + wide, 0);
    ramp.forEach((stop, i) => gradient.addColorStop(i / (ramp.length - 1), stop));
    context.fillStyle = gradient;
  } else context.fillStyle = color;
  if (outline) {
    context.strokeStyle = color;
    context.lineWidth = 2;
    context.strokeRect(x + 1, top + y + 2, wide - 2, 11);
  } else context.fillRect(x, top + y + 1, wide, 13);
  context.fillStyle = INK;
  context.fillText(text, x + wide + 7, top + y + 12);
}

function wrapped(context, text, width) {
  const rows = [''];
  for (const word of text.split(' ')) {
    const longer = rows.at(-1) ? `${rows.at(-1)} ${word}` : word;
    if (context.measureText(longer).width > width && rows.at(-1)) rows.push(word);
    else rows[rows.length - 1] = longer;
  }
  return rows;
}

/** What the layers that are on mean: a mark and a text each. */
function legendOf({ layers, classes, job, heatRamp }) {
  const { on, palette, hidden, settings } = layers;
  const entries = [];
  const named = (outline) => palette.forEach((color, i) => !hidden.has(i) && entries.push({ color: css(color), outline, text: classes[i].name }));
  if (job?.has_mask && on.mask) named(settings.mask.outline);
  if (job?.has_mask && on.heat && layers.heat) {
    const what = layers.heat === 'margin' ? 'doubt' : `score of ${classes[Number(layers.heat.slice(6))]?.name}`;
    entries.push({ ramp: heatRamp.map(css), text: `${what}, 0 to 1, from ${Number(settings.heat.threshold).toFixed(2)}` });
  }
  if (on.difference && layers.other) entries.push({ color: '#888', text: `other classes of ${layers.other.checkpoint} (${moment(layers.other.created)})` });
  if (on.truth && layers.slide?.truth) entries.push({ color: '#888', outline: true, text: 'outlines: ground truth' });
  if (on.tissue) entries.push({ color: css(layers.tissueColor), outline: true, text: 'where tissue is' });
  return entries;
}

/** What stands under the picture: slide, place, model, and what it is not for. */
function linesOf({ slide, job, layers, view, review }) {
  const { x, y, scale, degrees } = view.where;
  const zoom = slide.mpp ? `${trim((10 * scale) / slide.mpp)}× (${trim(slide.mpp / scale)} µm/px)` : `${trim(scale)} of full size`;
  const turned = degrees % 360 ? `, turned by ${Math.round(degrees)}°` : '';
  const ofResult = job?.has_mask && (layers.on.mask || layers.on.heat || layers.on.difference);
  const said = layers.on.review ? review.status?.words : 'Without corrections by people.';
  const place = `${slide.name}, centre x ${Math.round(x)} y ${Math.round(y)} px, ${zoom}${turned}`;
  return [place, ofResult ? [`Model ${job.checkpoint}${job.ended ? '' : ' (not finished)'}.`, said, job.notice].filter(Boolean).join(' ') : '', USE].filter(Boolean);
}

/** Like `a_10250_8020_10x.png`: slide, centre in level-0 pixels, magnification. */
function fileName({ slide, view }) {
  const { x, y, scale } = view.where;
  const zoom = slide.mpp ? `${trim((10 * scale) / slide.mpp)}x` : trim(scale);
  const stem = slide.name.replace(/\.[^.]+$/, '').replace(/[^\p{L}\p{N}.-]+/gu, '-');
  return `${stem}_${Math.round(x)}_${Math.round(y)}_${zoom}.png`;
}

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

const toBlob = (canvas) => new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('the picture is empty'))), 'image/png'));

/** The view as a picture, saved by the browser; nothing without a slide. */
export async function saveSnapshot(workspace) {
  const { view, slide, classes, job, layers, review } = workspace;
  if (!slide || !view.item) return;
  const picture = drawSnapshot(view, { entries: legendOf({ layers, classes, job, heatRamp: HEAT_RAMP }), lines: linesOf({ slide, job, layers, view, review }) });
  const name = fileName({ slide, view });
  saveFile(await toBlob(picture), name);
  workspace.toast(`The browser saves this view as ${name}.`, 'info');
}
