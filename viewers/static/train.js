// The Train tab: choose data, set, start, watch, compare, publish. The server keeps everything; this page only looks.

import { api, memory } from './api.js';
import { h } from './dom.js';
import { InSight } from './in_sight.js';
import { Toasts } from './toasts.js';
import { trainApi } from './train_api.js';
import { TrainCompare } from './train_compare.js';
import { TrainList } from './train_list.js';
import { TrainNew } from './train_new.js';
import { takeWanted } from './train_on.js';
import { TrainRun } from './train_run.js';

const LOOK_MS = 2000;
const HIDDEN_MS = 10000;

export async function mount(root) {
  window.__lpdTrain?.destroy?.();
  const train = new Train(root);
  window.__lpdTrain = train.probe;
  await train.begin();
}

class Train {
  constructor(root) {
    Object.assign(this, { root, trainings: [], current: null, me: { user: '', may_cancel_all: true }, errors: [] });
    root.classList.add('lpd-train');
    this.toasts = new Toasts();
    const acts = {
      root,
      attempt: (act) => this.attempt(act),
      say: (text, kind) => this.toasts.show(text, kind),
      mayChange: (training) => this.me.may_cancel_all || training.user === this.me.user,
      changed: () => this.look(),
    };
    this.list = new TrainList({ onNew: () => this.open(null), onOpen: (name) => this.open(name), onCompare: (names) => this.openCompare(names) });
    this.fresh = new TrainNew(acts, { onStarted: (started) => this.started(started) });
    this.run = new TrainRun(acts, { onClone: (name) => this.clone(name), onGone: () => this.open(null) });
    this.comparison = new TrainCompare(acts);
    this.views = { fresh: this.fresh, run: this.run, comparison: this.comparison };
    this.stage = h('section', { class: 'lpd-train-stage', 'aria-label': 'Training' }, Object.values(this.views).map((view) => view.element));
    root.replaceChildren(h('h1', { class: 'lpd-unseen' }, 'LPD: train models'), this.list.element, this.stage, this.toasts.element);
    this.sight = new InSight(root, () => this.attempt(() => this.lookAgain()));
    this.unmount = new MutationObserver(() => root.isConnected || this.destroy());
    this.unmount.observe(document.body, { childList: true, subtree: true });
    const train = this;
    this.probe = { ready: false, errors: this.errors, destroy: () => this.destroy(), get state() { return { current: train.current, trainings: train.trainings, curves: train.run.counts }; } };
  }

  async begin() {
    await this.attempt(async () => {
      [this.me] = await Promise.all([api.me(), this.fresh.begin()]);
      this.comparison.presets = this.fresh.presets;
      this.list.tellOfTensorBoard(this.fresh.tensorboard);
      await this.look();
      const last = memory.get('training', null);
      this.open(this.trainings.some((training) => training.name === last) ? last : (this.trainings.find((training) => !training.ended)?.name ?? null));
      await this.goTo(takeWanted());
    });
    this.probe.ready = true;
    this.watch();
  }

  /** Look again and again, seldom when nobody sees it. */
  async watch() {
    for (;;) {
      const unseen = document.hidden || !this.root.offsetParent;
      await new Promise((resolve) => (this.timer = setTimeout(resolve, unseen ? HIDDEN_MS : LOOK_MS)));
      if (this.gone) return;
      if (document.hidden || !this.root.offsetParent) continue;
      try {
        await this.look();
        if (this.lost) this.toasts.show('The app answers again.', 'info');
        this.lost = false;
      } catch (error) {
        if (!this.lost) this.toasts.show(error.message);
        this.lost = true;
      }
    }
  }

  /** Somebody comes back: data sets, models and trainings may have come since; what is filled in stays. */
  async lookAgain() {
    if (!this.probe.ready) return;
    await Promise.all([this.fresh.refresh(), this.look()]);
    this.run.evaluations.refresh();
    await this.goTo(takeWanted());
  }

  /** Begin a training on the data set of that name; null for none. */
  async goTo(name) {
    if (name === null) return;
    await this.open(null);
    this.fresh.data.chooseByName(name);
  }

  async look() {
    const { trainings } = await trainApi.list();
    this.trainings = trainings;
    this.fresh.known(trainings);
    this.list.render(trainings, this.comparing ? undefined : this.current);
    if (this.shown === 'run') await this.run.look(trainings.find((training) => training.name === this.current));
    if (this.shown === 'comparison') await this.comparison.look(trainings);
  }

  show(which) {
    this.shown = which;
    for (const [name, view] of Object.entries(this.views)) view.element.hidden = name !== which;
    this.comparing = which === 'comparison';
    this.stage.scrollTop = 0;
  }

  open(name) {
    this.current = name;
    memory.set('training', name);
    this.show(name === null ? 'fresh' : 'run');
    if (name !== null) this.run.open(name);
    return this.attempt(() => this.look());
  }

  openCompare(names) {
    this.show('comparison');
    this.comparison.open(names);
    return this.attempt(() => this.look());
  }

  async started(started) {
    await this.open(started[0].name);
    if (started.length > 1) this.toasts.show(`${started.length} trainings are in the line; they run one after another.`, 'info');
  }

  clone(name) {
    return this.attempt(async () => {
      const saved = await trainApi.settings(name);
      const source = this.trainings.find((training) => training.name === name);
      await this.open(null);
      this.fresh.take(saved, source);
    });
  }

  async attempt(act) {
    try {
      await act();
    } catch (error) {
      if (error.status === undefined) this.errors.push(String(error));
      this.toasts.show(error.status === undefined ? 'Something went wrong in the page: reload it.' : error.message);
      if (error.status === undefined) console.error(error);
    }
  }

  destroy() {
    this.gone = true;
    clearTimeout(this.timer);
    this.unmount.disconnect();
    this.sight.destroy();
    for (const view of Object.values(this.views)) view.destroy?.();
  }
}
