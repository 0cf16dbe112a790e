// Who is logged in, and the way out, at the right end of the bar; nothing where people have no names.

import { address, api } from './api.js';
import { h } from './dom.js';

async function show() {
  const { user, may_log_out: mayLogOut } = await api.me();
  if (!user) return;
  const out = h('form', { method: 'post', action: address('/log-out') }, h('button', { type: 'submit', title: 'End this session on this computer' }, 'Log out'));
  const account = h('div', { class: 'lpd-account', role: 'group', 'aria-label': 'Account' }, h('span', { title: `You are ${user}` }, user));
  if (mayLogOut) account.append(out);
  document.body.append(account);
}

show().catch(() => null); // the workspace says it when the app does not answer
