// Which slides are shown, in what order, below which folder: from the whole list to lines of the list on the left.

export const SORTS = { name: 'Name', modified: 'Date', size: 'File size', status: 'Status' };

const RANK = { running: 0, queued: 0, none: 1, failed: 2, crashed: 2, cancelled: 3, done: 4, error: 5 };
const names = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
const COMPARE = {
  name: (a, b) => names.compare(a.name, b.name),
  modified: (a, b) => b.modified - a.modified,
  size: (a, b) => b.size_bytes - a.size_bytes,
  status: (a, b) => RANK[status(a)] - RANK[status(b)],
};

/** The state of the result that counts: one at work, else a finished one, else whatever was tried last. */
export function shownResult(slide) {
  const results = slide.results ?? [];
  return results.find(({ state }) => state === 'running' || state === 'queued') ?? results.find(({ state }) => state === 'done') ?? results[0] ?? null;
}

export const status = (slide) => (slide.status === 'error' ? 'error' : shownResult(slide)?.state ?? 'none');

/** Lines {folder, count, closed} and {slide}: folders by name (where there are several), slides in them as wished. */
export function arrange(slides, { search = '', sort = 'name', down = false, closed = new Set() }) {
  const found = matching(slides, search);
  const groups = new Map();
  for (const slide of found) {
    const group = groups.get(slide.folder);
    if (group) group.push(slide);
    else groups.set(slide.folder, [slide]);
  }
  const folders = [...groups.keys()].sort(names.compare);
  const several = folders.length > 1 || Boolean(folders[0]);
  const lines = [];
  for (const folder of folders) {
    const inside = ordered(groups.get(folder), sort, down);
    const shut = several && !search && closed.has(folder);
    if (several) lines.push({ folder, count: inside.length, closed: shut });
    if (!shut) for (const slide of inside) lines.push({ slide });
  }
  return { lines, found: found.length };
}

function matching(slides, search) {
  const words = search.trim().toLowerCase().split(/\s+/).filter(Boolean);
  return words.length ? slides.filter((slide) => words.every((word) => text(slide).includes(word))) : slides;
}

const texts = new WeakMap();

function text(slide) {
  if (!texts.has(slide)) texts.set(slide, [slide.relative, slide.vendor, slide.error, ...(slide.results ?? []).map((one) => one.checkpoint)].join(' ').toLowerCase());
  return texts.get(slide);
}

/** What cannot be opened comes last, whatever is sought. */
function ordered(slides, sort, down) {
  const sign = down ? -1 : 1;
  const bad = (slide) => slide.status === 'error';
  return [...slides].sort((a, b) => (sort === 'status' ? 0 : bad(a) - bad(b)) || sign * COMPARE[sort](a, b) || names.compare(a.name, b.name));
}
