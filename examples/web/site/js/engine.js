// SPDX-License-Identifier: MIT
//
// Calls of the library, as promises; one that the library refuses throws an Error with its sentence.
const worker = new Worker(new URL('worker.js', import.meta.url), {type: 'module'});
const waiting = new Map();
let last = 0,
  failure = null; // why there is no library

worker.onmessage = ({data}) => {
  const {resolve, reject} = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.answer.error) reject(new Error(data.answer.error));
  else resolve(data.answer);
};
worker.onerror = (event) => {
  failure = new Error(`the library does not start: ${event.message ?? 'no WebAssembly'}`);
  for (const {reject} of waiting.values()) reject(failure);
  waiting.clear();
};

function send(message, transfer = []) {
  if (failure) return Promise.reject(failure);
  return new Promise((resolve, reject) => {
    waiting.set(++last, {resolve, reject});
    worker.postMessage({id: last, ...message}, transfer);
  });
}

/** The answer of page.cpp to a request. */
export const call = (request) => send({request});

/** Takes the model file in an ArrayBuffer, which is given away. */
export const load = (bytes, name) => send({bytes, name}, [bytes]);

/** A function that runs f with the newest arguments only: what arrives while f runs waits, and replaces what waited. */
export function latest(f) {
  let running = false,
    next = null;
  return async (...args) => {
    next = args;
    if (running) return;
    running = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await f(...now);
      }
    } finally {
      running = false;
    }
  };
}
