// SPDX-License-Identifier: MIT
//
// The library, in a thread of its own: takes {id, request} or {id, bytes, name}, answers {id, answer}.
import createHsm from '../hsm.js';

const module = createHsm();

function withText(hsm, text, f) {
  const size = hsm.lengthBytesUTF8(text) + 1;
  const place = hsm._malloc(size);
  hsm.stringToUTF8(text, place, size);
  try {
    return f(place);
  } finally {
    hsm._free(place);
  }
}

function load(hsm, bytes, name) {
  const place = hsm._malloc(bytes.byteLength);
  hsm.HEAPU8.set(new Uint8Array(bytes), place);
  try {
    return withText(hsm, name, (text) => hsm._hsm_load(place, bytes.byteLength, text));
  } finally {
    hsm._free(place);
  }
}

onmessage = async ({data}) => {
  let answer;
  try {
    const hsm = await module;
    const start = performance.now();
    const text = data.bytes
      ? load(hsm, data.bytes, data.name)
      : withText(hsm, JSON.stringify(data.request), (place) => hsm._hsm_call(place));
    const milliseconds = performance.now() - start;
    answer = {...JSON.parse(hsm.UTF8ToString(text)), milliseconds};
  } catch (error) {
    answer = {error: `the library stopped: ${error.message ?? error}`};
  }
  postMessage({id: data.id, answer});
};
