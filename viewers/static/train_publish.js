// Publishing: what a person says of a model before its checkpoint is put among the models.

import { opened } from './dialogs.js';
import { h } from './dom.js';
import { trainApi } from './train_api.js';

export async function askPublication(acts, training) {
  const name = h('input', { required: true, value: training.name, maxLength: 80, 'aria-label': 'Name of the model' });
  const which = training.checkpoints.map((value) => h('label', { class: 'lpd-tick' }, h('input', { type: 'radio', name: 'lpd-which', value, checked: value === training.checkpoints[0] }), h('span', {}, value === 'last' && training.state !== 'done' ? EARLY : WORDS[value])));
  const licence = h('input', { maxLength: 500, placeholder: 'for example: CC BY 4.0, or internal use only' });
  const use = h('textarea', { rows: 3, maxLength: 4000, placeholder: 'For which tissue, stain, scanner and question; what it is not for' });
  const trouble = h('p', { class: 'lpd-trouble', role: 'alert' });
  const model = await opened(acts.root, (close) => {
    const form = h(
      'form',
      {
        onsubmit: async (event) => {
          event.preventDefault();
          const chosen = form.querySelector('[name=lpd-which]:checked')?.value ?? 'last';
          try {
            close(await trainApi.publish(training.name, { name: name.value, which: chosen, licence: licence.value, use: use.value }));
          } catch (error) {
            trouble.textContent = error.message;
          }
        },
      },
      h('h2', {}, `Publish ${training.name}`),
      field('Name', name),
      h('fieldset', {}, h('legend', {}, 'Checkpoint'), which),
      field('Licence', licence),
      field('Intended use', use),
      h('p', { class: 'lpd-hint' }, 'Data, settings, start, scores under each gate and versions go onto the card by themselves.'),
      trouble,
      h('div', { class: 'lpd-dialog-buttons' }, h('button', { type: 'button', class: 'lpd-secondary', onclick: () => close(false) }, 'Cancel'), h('button', { type: 'submit', class: 'lpd-primary' }, 'Publish')),
    );
    return [form];
  });
  if (model) acts.say(`${model.name} is among the models now: choose it in Slides and Compare.`, 'info');
}

const EARLY = 'Last: averaged weights as they were last saved, before the end of the schedule';
const WORDS = { last: 'Last: averaged weights at the end of the schedule (recommended)', best: 'Best: highest score on valid, which flatters small splits' };
const field = (text, input) => h('label', { class: 'lpd-dialog-field' }, h('span', {}, text), input);
