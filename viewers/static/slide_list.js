// The list of slides on the left: a picture, a name, and what cannot be opened with its reason.

import { h, icon, trim } from './dom.js';

const FILTER_FROM = 8;

export class SlideList {
  constructor(onPick) {
    this.onPick = onPick;
    this.filter = h('input', { type: 'search', placeholder: 'Filter', 'aria-label': 'Filter slides', hidden: true });
    this.filter.addEventListener('input', () => this.applyFilter());
    this.cards = h('div', { class: 'lpd-cards' });
    this.number = h('span', { class: 'lpd-count' });
    this.element = h('nav', { class: 'lpd-rail', 'aria-label': 'Slides' }, h('header', {}, h('h2', {}, 'Slides'), this.number), this.filter, this.cards);
    this.badges = new Map();
  }

  render(slides, selected) {
    this.number.textContent = slides.length || '';
    this.filter.hidden = slides.length < FILTER_FROM;
    const usableFirst = [...slides].sort((a, b) => (a.status === 'error') - (b.status === 'error'));
    this.cards.replaceChildren(...usableFirst.map((slide) => this.card(slide)));
    this.select(selected);
    this.applyFilter();
  }

  card(slide) {
    const bad = slide.status === 'error';
    const picture =
      slide.status === 'ok'
        ? h('img', { src: slide.thumbnail, alt: '', loading: 'lazy', decoding: 'async' })
        : h('span', { class: 'lpd-no-picture' }, bad ? icon('warning') : '…');
    const about = bad ? 'Cannot be opened' : slide.mpp ? `${trim(slide.mpp)} µm/px` : slide.status === 'ok' ? 'resolution unknown' : '';
    return h(
      'button',
      {
        type: 'button',
        class: `lpd-card${bad ? ' lpd-bad' : ''}`,
        title: bad ? slide.error : slide.relative,
        'data-id': slide.id,
        'aria-disabled': bad ? 'true' : null,
        onclick: () => (bad ? null : this.onPick(slide.id)),
      },
      h('span', { class: 'lpd-picture' }, picture, h('span', { class: 'lpd-badge', hidden: true })),
      h('span', { class: 'lpd-name' }, slide.name),
      h('span', { class: 'lpd-about' }, slide.synthetic ? `synthetic · ${about}` : about),
      bad ? h('span', { class: 'lpd-reason' }, slide.error) : null,
    );
  }

  select(id) {
    for (const card of this.cards.children) {
      const chosen = card.dataset.id === id;
      if (chosen && card.getAttribute('aria-current') !== 'true') card.scrollIntoView({ block: 'nearest' });
      card.setAttribute('aria-current', chosen);
    }
  }

  /** Show on a slide's picture how far its running job is. */
  badge(id, job) {
    const badge = this.cards.querySelector(`[data-id="${CSS.escape(id)}"] .lpd-badge`);
    if (!badge) return;
    const { done, total } = job.progress;
    badge.hidden = job.ended;
    badge.textContent = total ? `${Math.floor((100 * done) / total)} %` : '…';
  }

  applyFilter() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const card of this.cards.children) card.hidden = Boolean(wanted) && !card.title.toLowerCase().includes(wanted) && !card.textContent.toLowerCase().includes(wanted);
  }
}
