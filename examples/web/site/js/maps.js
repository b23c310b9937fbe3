// SPDX-License-Identifier: MIT
//
// A map for each layer: row t, column j has the colour of what token t takes from token j.
import {make} from './dom.js';
import {nameOf} from './grid.js';
import {shade, sourcesOf} from './sources.js';

/** The value of a colour of theme.css, as three numbers. */
function colour(name) {
  const value = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(value.slice(i, i + 2), 16));
}

function paint(canvas, layer, head, T, colours) {
  canvas.width = canvas.height = T;
  const context = canvas.getContext('2d'),
    image = context.createImageData(T, T);
  for (let t = 0; t < T; ++t) {
    sourcesOf(layer, head, t, T).forEach((w, j) => {
      const paint = w < 0 ? colours.minus : j === t ? colours.self : colours.from;
      image.data.set([...paint, j > t ? 0 : Math.round(255 * shade(w))], 4 * (t * T + j));
    });
  }
  context.putImageData(image, 0, 0);
}

export function drawMaps(place, layers, head, T) {
  const colours = {from: colour('--from'), minus: colour('--minus'), self: colour('--self')};
  place.replaceChildren(
    ...layers.map((layer, l) => {
      const canvas = make('canvas', {role: 'img', 'aria-label': `layer ${l}, ${layer.mixer}: ${layer.meaning || 'no weights'}`});
      paint(canvas, layer, head, T, colours);
      const told = layer.meaning ? canvas : make('p', {class: 'none'}, 'no weights to draw');
      return make('figure', {class: 'card'}, make('figcaption', {}, make('b', {}, `${l} `), nameOf(layer)), told);
    }),
  );
}
