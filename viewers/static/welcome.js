// What stands in place of a slide while there is none: where slides go, how to name another folder, a slide to try.

import { bytes, h } from './dom.js';

/** Elements that explain an empty folder, or one in which nothing can be opened. */
export function welcome({ folder, count, setup, onSample, onCopy, onUpload }) {
  const parts = [
    h('strong', {}, count ? 'No slide in the folder can be opened' : 'No slides yet'),
    h('span', {}, count ? 'The list on the left says why. Put other slide files (SVS, NDPI, MRXS, TIFF …) into' : 'Put slide files (SVS, NDPI, MRXS, TIFF, PNG, JPEG …) into this folder; sub-folders are fine. They appear here by themselves.'),
    h('code', { class: 'lpd-folder-path' }, folder, h('button', { type: 'button', class: 'lpd-link', title: 'Copy the path of the slides folder', onclick: () => onCopy(folder) }, 'copy')),
    h('span', { class: 'lpd-about' }, 'Slides elsewhere? End the app and start it as ', h('code', {}, 'python app.py --slides FOLDER'), '.'),
  ];
  if (setup?.max_upload) parts.push(h('button', { type: 'button', class: 'lpd-secondary', title: `Choose slide files of this computer to put into the folder, up to ${bytes(setup.max_upload)} each`, onclick: onUpload }, 'Upload slides …'));
  if (setup?.sample) parts.push(sampleButton(setup.sample, onSample));
  return parts;
}

function sampleButton({ name, size, host }, onSample) {
  const title = `Fetch ${name} (${bytes(size)}) from ${host} into the slides folder. This is the only time the app asks the internet for something.`;
  const button = h('button', { type: 'button', class: 'lpd-secondary lpd-sample', title }, `Fetch a public sample slide (${bytes(size)})`);
  button.addEventListener('click', async () => {
    button.disabled = true;
    button.textContent = `Fetching ${name} …`;
    await onSample();
    button.disabled = false;
    button.textContent = `Fetch a public sample slide (${bytes(size)})`;
  });
  return button;
}
