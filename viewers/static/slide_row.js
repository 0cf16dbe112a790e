// One line of the list of slides: a picture, a name, what the slide says of itself, what was made of it.

import { bytes, count, h, icon, moment, trim } from './dom.js';
import { shownResult } from './slide_order.js';

const WORDS = { running: 'at work', queued: 'waiting', failed: 'failed', crashed: 'ended unexpectedly', cancelled: 'stopped early', done: '' };
const ORIGINS = { given: 'entered', 'slide properties': 'slide', 'TIFF resolution': 'TIFF', 'image resolution': 'image' };
const MARKS = { running: '◔', queued: '◔', failed: '!', crashed: '!', cancelled: '◐', done: '✓' };
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [3000, 60000];

export function slideRow(slide) {
  const bad = slide.status === 'error';
  const lines = bad ? [h('span', { class: 'lpd-reason' }, slide.error)] : [h('span', { class: 'lpd-about' }, facts(slide)), h('span', { class: 'lpd-about' }, origin(slide)), state(slide)];
  return h(
    'div',
    { class: `lpd-card${bad ? ' lpd-bad' : ''}`, role: 'treeitem', 'aria-level': 2, title: told(slide), 'data-id': slide.id, 'aria-disabled': bad ? 'true' : null },
    h('span', { class: 'lpd-picture' }, picture(slide), h('span', { class: 'lpd-badge', hidden: true })),
    h('span', { class: 'lpd-lines' }, h('span', { class: 'lpd-name' }, slide.name), lines),
  );
}

export function folderRow({ folder, count: number, closed }) {
  const name = folder || 'slides folder';
  return h(
    'div',
    { class: 'lpd-folder', role: 'treeitem', 'aria-level': 1, 'aria-expanded': String(!closed), title: `${closed ? 'Show' : 'Hide'} the ${number} in ${name}`, 'data-folder': folder },
    h('span', { class: 'lpd-folder-name' }, name),
    h('span', { class: 'lpd-count' }, count(number)),
  );
}

/** Ask for the picture; done once a row has stayed in sight for a moment. */
export function showPicture(row) {
  const image = row.querySelector('img[data-src]');
  if (!image) return;
  image.src = image.dataset.src;
  image.removeAttribute('data-src');
}

function picture(slide) {
  if (slide.status !== 'ok') return h('span', { class: 'lpd-no-picture' }, slide.status === 'error' ? icon('warning') : '…');
  const image = h('img', { alt: '', decoding: 'async', 'data-src': slide.thumbnail });
  let wait = FIRST_RETRY_MS; // a slide without smaller levels is got ready first, which takes a while
  image.addEventListener('error', () => {
    if (wait > LAST_RETRY_MS) return image.replaceWith(h('span', { class: 'lpd-no-picture' }, icon('warning')));
    setTimeout(() => image.isConnected && (image.src = `${slide.thumbnail}&again=${wait}`), wait);
    wait *= 3;
  });
  return image;
}

const facts = (slide) => [slide.width && `${count(slide.width)} × ${count(slide.height)} px`, bytes(slide.size_bytes)].filter(Boolean).join(' · ');

const scale = (slide) => (slide.mpp ? `${trim(slide.mpp)} µm/px (${ORIGINS[slide.mpp_origin] ?? slide.mpp_origin})` : 'resolution unknown');

const origin = (slide) => (slide.status === 'ok' ? [slide.synthetic && 'synthetic', slide.vendor, scale(slide)].filter(Boolean).join(' · ') : 'is being read …');

function state(slide) {
  const result = shownResult(slide);
  if (!result) return h('span', { class: 'lpd-state' }, 'not segmented');
  const more = slide.results.length > 1 ? ` +${slide.results.length - 1}` : '';
  const text = [WORDS[result.state], moment(result.updated || result.created), result.checkpoint].filter(Boolean).join(' · ');
  return h('span', { class: `lpd-state lpd-is-${result.state}` }, h('b', {}, `${MARKS[result.state] ?? ''}${more} `), text);
}

/** Everything the row says, in full, and all results. */
function told(slide) {
  if (slide.status === 'error') return `${slide.relative}\n${slide.error}`;
  const results = (slide.results ?? []).map((one) => `${one.checkpoint}${one.region ? ' (part)' : ''}: ${WORDS[one.state] || 'segmented'}, ${moment(one.updated || one.created)}${one.user ? `, ${one.user}` : ''}`);
  return [slide.relative, facts(slide), origin(slide), `file of ${moment(slide.modified)}`, ...results].join('\n');
}
