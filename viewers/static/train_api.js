// The routes of trainings and data sets.

import { address, ask } from './api.js';

const at = encodeURIComponent;
const one = (name, rest = '') => `/api/trainings/${at(name)}${rest}`;

export const trainApi = {
  setup: () => ask('GET', '/api/training'),
  dataSets: () => ask('GET', '/api/datasets'),
  dataSet: (id, seed) => ask('GET', `/api/datasets/${at(id)}?seed=${seed}`),
  findings: (id) => ask('GET', `/api/datasets/${at(id)}/check`),
  makePhantom: () => ask('POST', '/api/datasets/phantom'),
  tile: (id, split, number, version) => address(`/datasets/${at(id)}/tiles/${at(split)}/${number}.jpeg?v=${at(version)}`),
  readSettings: (text) => ask('POST', '/api/training/settings', { text }),
  list: () => ask('GET', '/api/trainings'),
  check: (wish) => ask('POST', '/api/trainings/check', wish),
  start: (wish) => ask('POST', '/api/trainings', wish),
  curves: (name, run, since) => ask('GET', one(name, `/curves?run=${at(run)}&since=${since}`)),
  log: (name) => ask('GET', one(name, '/log')),
  settings: (name) => ask('GET', one(name, '/settings')),
  change: (name, what) => ask('POST', one(name, `/${what}`)),
  remove: (name) => ask('DELETE', one(name)),
  publish: (name, wish) => ask('POST', one(name, '/publication'), wish),
  measure: (wish) => ask('POST', '/api/probes', wish),
  measured: (id) => ask('GET', `/api/probes/${at(id)}`),
  giveUpMeasuring: (id) => ask('DELETE', `/api/probes/${at(id)}`),
  evaluations: (name) => ask('GET', one(name, '/evaluations')),
  evaluate: (name, wish) => ask('POST', one(name, '/evaluations'), wish),
  stopEvaluation: (name, key) => ask('DELETE', one(name, `/evaluations/${at(key)}`)),
  worst: (name, key, when) => address(one(name, `/evaluations/${at(key)}/worst.png?v=${when}`)),
  configFile: (name) => address(one(name, '/config.yaml')),
  preview: (name, step) => address(one(name, `/previews/${step}.png`)),
};
