// SPDX-License-Identifier: MIT
//
// The grid of one token: a row for each layer, the last on top, and a column for each token of the sentence.
import {make} from './dom.js';
import {shade, sourcesOf, visible} from './sources.js';

let cells = []; // by layer and token
let columns = []; // the labels of the tokens

/** A layer's name in few letters: its mixer, and its shift where all heads share one. */
export function nameOf(layer) {
  const shifts = [...new Set(layer.heads.flatMap(({distances}) => distances.slice(1, 2)))];
  const name = layer.mixer.split(':')[0];
  return shifts.length === 0
    ? name
    : `${name}, ${shifts.length > 1 ? `${Math.min(...shifts)}…${Math.max(...shifts)}` : shifts[0]}`;
}

/** Builds the grid; `chosen(t)` is told of the token that was clicked. */
export function showGrid(place, layers, text, chosen) {
  const label = (t) =>
    make('button', {type: 'button', tabindex: '-1', class: 'letter', onclick: () => chosen(t)}, visible(text[t]));
  columns = text.map((_, t) => label(t));
  cells = layers.map(() => text.map((_, t) => make('i', {onclick: () => chosen(t)})));
  const rows = layers.map((layer, l) => [make('b', {title: layer.mixer}, nameOf(layer)), ...cells[l]]).reverse();
  const table = make(
    'div',
    {class: 'cells', style: `--columns: ${text.length}`},
    ...rows.flat(),
    make('b', {class: 'corner'}, 'token'),
    ...columns,
  );
  place.replaceChildren(table);
}

/** Shows what token t takes. */
export function showToken(layers, head, t, T) {
  layers.forEach((layer, l) => {
    sourcesOf(layer, head, t, T).forEach((w, j) => {
      const cell = cells[l][j];
      cell.style.setProperty('--w', shade(w).toFixed(3));
      cell.className = j > t ? 'later' : w < 0 ? 'minus' : j === t ? 'self' : '';
      cell.title = j > t ? '' : `${nameOf(layer)}: ${w.toFixed(3)} of token ${j}`;
    });
  });
  columns.forEach((column, j) => {
    column.className = `letter${j === t ? ' chosen' : j > t ? ' later' : ''}`;
  });
  columns[t].scrollIntoView({block: 'nearest', inline: 'nearest'});
}
