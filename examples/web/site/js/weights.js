// SPDX-License-Identifier: MIT
//
// What the layers of the model take from where in one sentence: a grid for one token, a map of all, and the numbers.
import {$, make, tell} from './dom.js';
import {call, latest} from './engine.js';
import {showGrid, showToken} from './grid.js';
import {drawMaps} from './maps.js';
import {onModel} from './model.js';
import {sourcesOf, visible} from './sources.js';

let answer = null;

const head = () => Number($('head').value);
const token = () => Number($('token').value);

function showNumbers(layers, text) {
  const rows = layers
    .map((layer, l) => {
      const taken = sourcesOf(layer, head(), token(), text.length)
        .map((w, j) => ({w, j}))
        .filter(({w}) => Math.abs(w) >= 5e-3)
        .sort((a, b) => Math.abs(b.w) - Math.abs(a.w))
        .slice(0, 6);
      const told = taken
        .map(({w, j}) => `${w.toFixed(2)} of ${visible(text[j])} ${j === token() ? 'itself' : `${token() - j} back`}`)
        .join(', ');
      return make(
        'tr',
        {},
        make('th', {scope: 'row'}, String(l)),
        make('td', {}, layer.mixer),
        make('td', {}, layer.meaning || 'none'),
        make('td', {}, layer.meaning ? told : 'this layer has no weights to draw'),
      );
    })
    .reverse();
  $('numbers').replaceChildren(
    make('thead', {}, make('tr', {}, ...['Layer', 'Mixer', 'Weights', 'Takes'].map((name) => make('th', {scope: 'col'}, name)))),
    make('tbody', {}, ...rows),
  );
}

function chooseToken() {
  if (!answer) return;
  const {layers, text} = answer;
  $('token-text').textContent =
    `Token ${token()} of ${text.length - 1}, ${visible(text[token()])}, after “${text.slice(0, token()).join('')}”`;
  showToken(layers, head(), token(), text.length);
  showNumbers(layers, text);
}

function showAll() {
  if (!answer) return;
  showGrid($('grid'), answer.layers, answer.text, (t) => {
    $('token').value = t;
    chooseToken();
  });
  drawMaps($('maps'), answer.layers, head(), answer.text.length);
  chooseToken();
}

const ask = latest(async () => {
  try {
    const {ids, layers, milliseconds} = await call({call: 'weights', text: $('sentence').value});
    tell($('weights-problem'), '');
    const decoder = new TextDecoder();
    const text = ids.map((id) => decoder.decode(Uint8Array.of(id), {stream: true}));
    const other = text.join('') !== answer?.text.join('');
    answer = {layers, text};
    $('token').max = ids.length - 1;
    if (other) $('token').value = ids.length - 1; // of the same sentence the token that was chosen stays
    const heads = Math.max(1, ...layers.map((layer) => layer.heads.length)),
      chosen = head();
    $('head').replaceChildren(
      make('option', {value: -1}, 'mean of all'),
      ...Array.from({length: heads}, (_, h) => make('option', {value: h}, `head ${h}`)),
    );
    $('head').value = Math.min(chosen, heads - 1);
    showAll();
    const error = Math.max(0, ...layers.map((layer) => layer.error));
    $('check').textContent =
      `Computed from the model’s parameters by each layer’s formula, in ${milliseconds.toFixed(0)} ms. ` +
      `The layers computed from these weights are those of the library within ${error.toExponential(1)} of the largest value.`;
  } catch (error) {
    tell($('weights-problem'), error.message);
  }
});

function move(step) {
  $('token').value = token() + step;
  chooseToken();
}

export function startWeights() {
  document.querySelector('#weights form').addEventListener('submit', (event) => event.preventDefault());
  $('sentence').addEventListener('input', ask);
  $('head').addEventListener('change', showAll);
  $('token').addEventListener('input', chooseToken);
  $('grid').addEventListener('keydown', (event) => {
    const step = {ArrowLeft: -1, ArrowRight: 1, Home: -1000, End: 1000}[event.key];
    if (!step) return;
    move(step);
    event.preventDefault();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showAll);
  addEventListener('part', ({detail}) => {
    if (detail === 'weights') ask();
  });
  onModel(ask);
}
