// SPDX-License-Identifier: MIT
//
// What stands beside the story: its speed, its length and what it keeps.
import {$} from './dom.js';
import {bytes, whole} from './format.js';

const window_ms = 400; // of computing, that the speed is the mean of
let recent = []; // [tokens, milliseconds], the last ones

/** Counts tokens that took the library so long. */
export function count(tokens, milliseconds) {
  recent.push([tokens, milliseconds]);
  let sum = recent.reduce((all, [, ms]) => all + ms, 0);
  while (recent.length > 1 && sum - recent[0][1] > window_ms) sum -= recent.shift()[1];
  const read = recent.reduce((all, [n]) => all + n, 0);
  $('speed').textContent = sum > 0 ? whole(Math.round((1000 * read) / sum)) : '0';
}

/** Forgets the speed. */
export function reset() {
  recent = [];
  $('speed').textContent = '0';
}

/** Shows what an answer says of its branch. */
export function showState({length, state_bytes, attention_bytes, held_bytes}) {
  $('length').textContent = whole(length);
  $('state').textContent = bytes(state_bytes);
  $('attention-state').textContent = attention_bytes === null ? 'none' : bytes(attention_bytes);
  const most = Math.max(state_bytes, attention_bytes ?? 0, 1);
  $('state-bar').style.width = `${(100 * state_bytes) / most}%`;
  $('attention-bar').style.width = `${(100 * (attention_bytes ?? 0)) / most}%`;
  $('held').textContent = `Held here: ${bytes(held_bytes)}, with room to take 1,024 tokens back.`;
}
