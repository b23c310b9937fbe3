// SPDX-License-Identifier: MIT
//
// The model of the page: the one that came with it, or a file that was picked. Whoever uses it hears of each new one.
import {load} from './engine.js';

const listeners = [];
let current = null,
  loading = null;

/** f(model) now, where there is one, and for each new one; model is {info, name}. */
export function onModel(f) {
  listeners.push(f);
  if (current) f(current);
}

async function take(bytes, name) {
  const {info} = await load(bytes, name);
  current = {info, name};
  for (const f of listeners) f(current);
}

/** Takes the model that came with the page, once. */
export function loadBuiltIn() {
  loading ??= (async () => {
    const response = await fetch('story.safetensors');
    if (!response.ok) throw new Error(`there is no model beside this page (story.safetensors: ${response.status})`);
    await take(await response.arrayBuffer(), 'story.safetensors');
  })();
  return loading;
}

/** Takes a File. */
export const loadFile = async (file) => take(await file.arrayBuffer(), file.name);
