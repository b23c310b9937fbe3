// SPDX-License-Identifier: MIT
//
// The model of the page: the one that came with it, or a file that was picked. Whoever uses it hears of each new one.
import {load} from './engine.js';

const listeners = [];
let current = null,
  turn = Promise.resolve(), // the end of the last one that is taken
  loading = null; // the built-in one

/** f(model) now, where there is one, and for each new one; model is {info, name}. */
export function onModel(f) {
  listeners.push(f);
  if (current) f(current);
}

/** Takes a model after those before it; `read` gives its bytes then, or nothing where it is not wanted any more. */
function take(name, read) {
  const taken = turn.then(async () => {
    const bytes = await read();
    if (!bytes) return;
    const {info} = await load(bytes, name);
    current = {info, name};
    for (const f of listeners) f(current);
  });
  turn = taken.catch(() => {});
  return taken;
}

async function takeBuiltIn() {
  if (current) return;
  const response = await fetch('story.safetensors');
  if (!response.ok) throw new Error(`there is no model beside this page (story.safetensors: ${response.status})`);
  const bytes = await response.arrayBuffer();
  await take('story.safetensors', () => (current ? null : bytes));
}

/** Takes the model that came with the page where there is none yet; one that failed is tried again. */
export function loadBuiltIn() {
  loading ??= takeBuiltIn().catch((error) => {
    loading = null;
    if (!current) throw error;
  });
  return loading;
}

/** Takes a File. */
export const loadFile = (file) => take(file.name, () => file.arrayBuffer());
