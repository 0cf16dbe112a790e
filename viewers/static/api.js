// Talks to the server's JSON routes. Every failure becomes one sentence for people.

export class ApiError extends Error {
  /** `done` says how much of what is asked for has been made ready, 0–1, where it is to be asked for again soon. */
  constructor(message, status, done) {
    super(message);
    Object.assign(this, { status, done });
  }
}

// Where the app is, as this module's own address tells: a proxy may show it under a prefix.
const BASE = new URL('../..', import.meta.url).pathname.replace(/\/$/, '');

/** The address in this browser of a path that the server gives or answers, like `/slides/…`. */
export const address = (path) => BASE + path;

export async function ask(method, path, body) {
  const response = await answerOf(method, path, body);
  return response.json().catch(() => ({}));
}

/** The answer to a request that succeeded. */
async function answerOf(method, path, body, signal) {
  const options = { method, headers: {}, cache: 'no-store', signal };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(address(path), options);
  } catch {
    throw new ApiError('The app does not answer: check that it is still running.', 0);
  }
  if (response.ok) return response;
  const data = await response.json().catch(() => ({}));
  throw new ApiError(sentence(data.error ?? 'The app could not do that.'), response.status, data.done);
}

const sentence = (text) => {
  const trimmed = text.trim();
  const capital = /^[a-z]+ /.test(trimmed) ? trimmed[0].toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
};

/** A file that was sent, with the name to save it under. */
const file = async (response) => ({ blob: await response.blob(), name: decodeURIComponent(/filename\*=UTF-8''([^;]+)/.exec(response.headers.get('Content-Disposition'))?.[1] ?? 'file') });

const at = encodeURIComponent;

/** Prototypes that shall not count, and sets of them that shall count as one, as an address says it. */
const editQuery = (muted, merged) => [...muted.map((m) => `muted=${m}`), ...merged.map((members) => `merged=${members.join('-')}`)].join('&');

/** `model` is what a result is by: its name, and the digest of its file. */
const dataPrototypes = ({ id, split }, model, who, what = '') => `/api/datasets/${at(id)}/prototypes${what}?split=${at(split)}&${modelQuery(model)}&who=${at(who)}`;

const modelQuery = ({ name, digest }) => `model=${at(name)}&digest=${at(digest)}`;

const ADDRESSES = ['dzi', 'tiles', 'thumbnail'];

/** A slide's details with its addresses as this browser asks for them. */
const placed = (slide) => ({ ...slide, ...Object.fromEntries(ADDRESSES.filter((name) => slide[name]).map((name) => [name, address(slide[name])])) });

export const api = {
  /** All slides, or what has changed since a revision that the app told before. */
  slides: (since = '') => ask('GET', `/api/slides${since && `?since=${at(since)}`}`).then(({ slides, changed, ...rest }) => ({ slides: slides?.map(placed), changed: changed?.map(placed), ...rest })),
  setup: () => ask('GET', '/api/setup'),
  fetchSample: () => ask('POST', '/api/sample'),
  slide: (id) => ask('GET', `/api/slides/${at(id)}`).then(placed),
  setMpp: (id, mpp) => ask('PUT', `/api/slides/${at(id)}/mpp`, { mpp }).then(placed),
  checkpoints: () => ask('GET', '/api/checkpoints'),
  jobs: (slide) => ask('GET', `/api/jobs${slide ? `?slide=${at(slide)}` : ''}`),
  going: () => ask('GET', '/api/jobs?going=true'),
  start: (request) => ask('POST', '/api/jobs', request),
  cancel: (id) => ask('POST', `/api/jobs/${at(id)}/cancel`),
  changes: (id, since, run) => ask('GET', `/results/${at(id)}/changes?since=${since}&run=${at(run)}`),
  regionAreas: (id, polygons, corrected) => ask('POST', `/results/${at(id)}/region-areas`, { polygons, corrected }),
  report: (id) => answerOf('GET', `/results/${at(id)}/report.html`).then(file),
  areas: (id) => ask('GET', `/results/${at(id)}/areas`),
  download: (id, kind) => address(`/results/${at(id)}/download/${at(kind)}`),
  resultTile: (id, layer, level, col, row, version) => address(`/results/${at(id)}/layers/${layer}/${level}/${col}_${row}.png?v=${version}`),
  slideTile: (slide, layer, level, col, row) => address(`/slides/${at(slide.id)}/layers/${layer}/${level}/${col}_${row}.png?f=${at(slide.fingerprint)}&mpp=${slide.mpp ?? ''}`),
  prototypes: (id) => ask('GET', `/results/${at(id)}/prototypes`),
  /** `over` which slides: 'slide', 'folder' or 'all'. */
  prototypeFigures: (id, over) => ask('GET', `/results/${at(id)}/prototypes/figures?over=${over}`),
  /** Figures and gallery of a model over a split of a data set; `{ progress }` while a pass of the network makes them.
   * `who` asks: what nobody asks for any more is given up. */
  prototypesOverData: (data, model, who) => ask('GET', dataPrototypes(data, model, who)),
  dataProgress: (data, model, who) => ask('GET', dataPrototypes(data, model, who, '/progress')),
  leaveData: (data, model, who) => ask('DELETE', dataPrototypes(data, model, who)),
  dataPlotPath: ({ id, split }, models, kind) => `/api/datasets/${at(id)}/prototypes/plot.${kind}?split=${at(split)}&${models.map(modelQuery).join('&')}`,
  dataTilePath: ({ id, split }, number, models, kind) => `/api/datasets/${at(id)}/figure.${kind}?split=${at(split)}&number=${number}${models.map((name) => `&model=${at(name)}`).join('')}`,
  dataTile: ({ id, split }, number) => address(`/datasets/${at(id)}/tiles/${at(split)}/${number}.jpeg`),
  dataSets: () => ask('GET', '/api/datasets').then(({ data }) => data.filter((one) => !one.error)),
  gallery: (id, over) => ask('GET', `/results/${at(id)}/prototypes/gallery?over=${over}`),
  /** A figure by its path, and the address to save it from. */
  figure: (path, signal) => answerOf('GET', path, undefined, signal).then((response) => response.blob()),
  plotPath: (ids, kind, over) => `/results/${at(ids[0])}/prototypes/plot.${kind}?over=${over}${ids.slice(1).map((id) => `&beside=${at(id)}`).join('')}`,
  pairsPath: ([left, right], kind) => `/api/matching/plot.${kind}?left=${at(left)}&right=${at(right)}`,
  /** Models' prototypes in a plane, with examples from results of theirs. */
  projectionPath: (models, ids, kind) => `/api/checkpoints/projection.${kind}?${[...models.map(modelQuery), ...ids.map((id) => `example=${at(id)}`)].join('&')}`,
  placePath: (ids, [x, y], kind) => `/results/${at(ids[0])}/prototypes/place.${kind}?x=${Math.round(x)}&y=${Math.round(y)}${ids.slice(1).map((id) => `&beside=${at(id)}`).join('')}`,
  crop: (slide, [x, y, width, height]) => address(`/slides/${at(slide.id)}/crop/${x}_${y}_${width}_${height}.jpeg?f=${at(slide.fingerprint)}`),
  editedTile: (id, { muted, merged }, level, col, row, version) => address(`/results/${at(id)}/prototypes/tiles/${level}/${col}_${row}.png?${editQuery(muted, merged)}&v=${version}`),
  editedAreas: (id, { muted, merged }) => ask('GET', `/results/${at(id)}/prototypes/areas?${editQuery(muted, merged)}`),
  /** All prototypes of one or two models on a picture that is sent, as a figure. */
  imageFigure: (image, mask, models, kind, save, signal) => {
    const form = new FormData();
    form.append('image', image);
    if (mask) form.append('mask', mask);
    for (const model of models) form.append('checkpoint', model);
    form.append('kind', kind);
    if (save) form.append('save', 'true');
    return answerOf('POST', '/api/images/figure', form, signal).then((response) => response.blob());
  },
  namePrototypes: (model, digest, names) => ask('PUT', `/api/checkpoints/${at(model)}/prototypes`, { digest, names }),
  saveEdited: (model, digest, name, { muted, merged }) => ask('POST', `/api/checkpoints/${at(model)}/edited`, { digest, name, muted, merged }),
  matching: (left, right) => ask('GET', `/api/matching?left=${at(left)}&right=${at(right)}`),
  value: (id, x, y) => ask('GET', `/results/${at(id)}/value?x=${x}&y=${y}`),
  review: (id, since) => ask('GET', `/results/${at(id)}/review?since=${since}`),
  reviewRegion: (id, x, y, view) => ask('GET', `/results/${at(id)}/review/region?x=${x}&y=${y}${view.map((value) => `&view=${value}`).join('')}`),
  reviewEdit: (id, what, edit) => ask('POST', `/results/${at(id)}/review/${what}`, edit),
  reviewTile: (id, level, col, row, version) => address(`/results/${at(id)}/review/tiles/${level}/${col}_${row}.png?v=${version}`),
  reviewFile: (id, kind) => address(`/results/${at(id)}/review/export/${at(kind)}`),
  annotations: (slide) => ask('GET', `/api/slides/${at(slide)}/annotations`),
  saveAnnotations: ({ id, fingerprint }, revision, features) => ask('PUT', `/api/slides/${at(id)}/annotations?f=${at(fingerprint)}`, { revision, features }),
  annotationFile: (slide) => address(`/api/slides/${at(slide)}/annotations.geojson`),
  me: () => ask('GET', '/api/me'),
  labelSets: () => ask('GET', '/api/labels'),
  newLabelSet: (set) => ask('POST', '/api/labels', set),
  labels: (id, slide, since) => ask('GET', `/api/labels/${at(id)}?slide=${at(slide)}&since=${since}`),
  /** `what` is edit, undo, inside, proposals or exports. */
  labelAct: (id, what, body) => ask('POST', `/api/labels/${at(id)}/${what}`, body),
  labelPlan: (id, holdOut) => ask('GET', `/api/labels/${at(id)}/plan?${holdOut === null ? '' : holdOut.length ? holdOut.map((slide) => `hold_out=${at(slide)}`).join('&') : 'none=true'}`),
  labelExport: (id, number) => ask('GET', `/api/labels/${at(id)}/exports/${at(number)}`),
};

// What this browser remembers between visits; a browser that forbids storage simply forgets.
export const memory = {
  get(name, fallback) {
    try {
      return JSON.parse(localStorage.getItem(`lpd.${name}`)) ?? fallback;
    } catch {
      return fallback;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`lpd.${name}`, JSON.stringify(value));
    } catch {
      return; // private browsing: nothing is lost but convenience
    }
  },
};
