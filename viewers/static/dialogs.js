// Small windows over the page: a question with two answers, or a form.

import { h } from './dom.js';

/** Ask before something that cannot be undone; true if the person says so. */
export function confirmed(root, text, verb) {
  return opened(root, (close) => [
    h('p', {}, text),
    h('div', { class: 'lpd-dialog-buttons' }, h('button', { type: 'button', class: 'lpd-secondary', autofocus: true, onclick: () => close(false) }, 'Keep'), h('button', { type: 'button', class: 'lpd-danger', onclick: () => close(true) }, verb)),
  ]);
}

/** A window filled by `build(close)`; resolves with what `close` is given, or false when it is dismissed. */
export function opened(root, build) {
  return new Promise((resolve) => {
    const dialog = h('dialog', { class: 'lpd-dialog' });
    const close = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    dialog.append(...build(close).flat());
    dialog.addEventListener('cancel', () => close(false));
    root.append(dialog);
    dialog.showModal();
  });
}
