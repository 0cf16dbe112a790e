// Slides on their way from this computer into the slides folder: one after the other, with progress and a way to stop.

import { address } from './api.js';
import { bytes, h, icon } from './dom.js';

export class Uploads {
  constructor({ onArrived, onTrouble }) {
    Object.assign(this, { onArrived, onTrouble, waiting: [], limit: 0 });
    this.input = h('input', { type: 'file', multiple: true, hidden: true });
    this.input.addEventListener('change', () => {
      this.add([...this.input.files]);
      this.input.value = '';
    });
    this.button = h('button', { type: 'button', class: 'lpd-help', hidden: true, title: 'Upload slides of this computer into the slides folder', 'aria-label': 'Upload slides', onclick: () => this.input.click() }, icon('upload'));
    this.element = h('div', { class: 'lpd-uploads', hidden: true });
  }

  /** Allow files of up to so many bytes; 0 allows none. Files may also be dropped onto `place`. */
  allow(limit, place) {
    this.limit = limit;
    this.button.hidden = !limit;
    if (!limit) return;
    place.addEventListener('dragover', (event) => event.preventDefault());
    place.addEventListener('drop', (event) => {
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }

  add(files) {
    for (const file of files) {
      if (file.size > this.limit) this.onTrouble(`${file.name} has ${bytes(file.size)}, and ${bytes(this.limit)} may be uploaded: copy it into the slides folder instead.`);
      else this.waiting.push(this.row(file));
    }
    this.next();
  }

  row(file) {
    const bar = h('progress', { max: 1, value: 0 });
    const about = h('span', { class: 'lpd-about' }, 'waiting');
    const upload = { file, bar, about };
    const cancel = h('button', { type: 'button', class: 'lpd-job-cancel', title: `Stop uploading ${file.name}; nothing of it is kept`, 'aria-label': `Cancel upload of ${file.name}`, onclick: () => this.stop(upload) }, '×');
    upload.element = h('div', { class: 'lpd-job-row' }, h('span', { class: 'lpd-lines' }, h('span', { class: 'lpd-name', title: file.name }, file.name), bar, about), cancel);
    this.element.append(upload.element);
    this.element.hidden = false;
    return upload;
  }

  async next() {
    if (this.going || !this.waiting.length) return;
    this.going = this.waiting.shift();
    try {
      const arrived = await send(this.going);
      if (arrived) this.onArrived(arrived);
    } catch (error) {
      this.onTrouble(error.message);
    }
    this.remove(this.going);
    this.going = null;
    this.next();
  }

  stop(upload) {
    if (upload.request) upload.request.abort();
    this.waiting = this.waiting.filter((one) => one !== upload);
    if (upload !== this.going) this.remove(upload);
  }

  remove(upload) {
    upload.element.remove();
    this.element.hidden = !this.element.childElementCount;
  }

  destroy() {
    this.waiting = [];
    this.going?.request?.abort();
  }
}

/** Resolves to what the app says of the slide, or null if it was stopped. */
function send(upload) {
  const { file, bar, about } = upload;
  const request = new XMLHttpRequest();
  upload.request = request;
  return new Promise((resolve, reject) => {
    request.upload.addEventListener('progress', ({ loaded }) => {
      bar.value = file.size ? loaded / file.size : 1;
      about.textContent = loaded < file.size ? `${bytes(loaded)} of ${bytes(file.size)}` : 'is being looked at …';
    });
    request.addEventListener('abort', () => resolve(null));
    request.addEventListener('error', () => reject(new Error(`${file.name} could not be uploaded: the app does not answer or refused it.`)));
    request.addEventListener('load', () => {
      const data = read(request.responseText);
      if (request.status === 201) resolve(data);
      else reject(new Error(`${data.error ?? `${file.name} could not be uploaded`}.`));
    });
    request.open('POST', address(`/api/uploads?name=${encodeURIComponent(file.name)}`));
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.send(file);
  });
}

function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
