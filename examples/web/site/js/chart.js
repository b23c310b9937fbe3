// SPDX-License-Identifier: MIT
//
// Lines over contexts, both axes logarithmic, as an SVG as wide as its place.
import {short} from './format.js';

const margin = {left: 52, right: 14, top: 12, bottom: 36};

function element(tag, attributes, text) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** 1000 as "1k", which `short` says from 10k on. */
const round = (T) => (T >= 1e6 ? `${T / 1e6}M` : T >= 1000 ? `${T / 1000}k` : String(T));

/** Powers of `base` from low to high, at most about `most` of them. */
function ticks(low, high, base, most) {
  const first = Math.ceil(Math.log(low) / Math.log(base) - 1e-9),
    last = Math.floor(Math.log(high) / Math.log(base) + 1e-9);
  const step = Math.max(1, Math.ceil((last - first + 1) / most));
  const all = [];
  for (let power = first; power <= last; power += step) all.push(base ** power);
  return all;
}

/**
 * Draws series [{name, kind, points: [[T, value], ...]}] into `place`; `label` makes text of a value, whose axis has
 * powers of `base`; `mark` is a context to be marked, or null.
 */
export function drawChart(place, series, {label = short, base = 10, mark = null}) {
  const width = Math.max(240, place.clientWidth),
    height = 190;
  const all = series.flatMap(({points}) => points).filter(([, value]) => value > 0);
  place.replaceChildren();
  if (all.length === 0) {
    place.append('nothing: these layers keep no state');
    return;
  }
  const xs = all.map(([T]) => T),
    ys = all.map(([, value]) => value);
  const low = {x: Math.min(...xs), y: Math.min(...ys) / 1.4},
    high = {x: Math.max(...xs), y: Math.max(...ys) * 1.4};
  const x = (T) => margin.left + ((width - margin.left - margin.right) * Math.log(T / low.x)) / Math.log(high.x / low.x);
  const y = (value) =>
    height - margin.bottom - ((height - margin.top - margin.bottom) * Math.log(value / low.y)) / Math.log(high.y / low.y);
  const text = series
    .map(
      ({name, points}) =>
        `${name}: ${label(points[0][1])} at T = ${short(points[0][0])}, ` +
        `${label(points.at(-1)[1])} at T = ${short(points.at(-1)[0])}`,
    )
    .join('; ');
  const svg = element('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': text, class: 'chart'});
  for (const value of ticks(low.y, high.y, base, 5)) {
    svg.append(
      element('path', {class: 'rule', d: `M${margin.left} ${y(value)}H${width - margin.right}`}),
      element('text', {x: margin.left - 6, y: y(value) + 4, 'text-anchor': 'end'}, label(value).replace('.0 ', ' ')),
    );
  }
  for (const T of ticks(low.x, high.x, 10, 8))
    svg.append(element('text', {x: x(T), y: height - 18, 'text-anchor': 'middle'}, round(T)));
  svg.append(element('text', {x: width - margin.right, y: height - 2, 'text-anchor': 'end'}, 'context T'));
  const marked = mark !== null && mark > low.x && mark < high.x;
  if (marked) svg.append(element('path', {class: 'mark', d: `M${x(mark)} ${margin.top}V${height - margin.bottom}`}));
  for (const {kind, points} of series) {
    const d = points
      .map(([T, value], i) => `${i ? 'L' : 'M'}${x(T).toFixed(1)} ${y(Math.max(value, low.y)).toFixed(1)}`)
      .join('');
    svg.append(element('path', {class: `line ${kind}`, d}));
  }
  place.append(svg);
  const names = document.createElement('p');
  names.className = 'names';
  for (const {name, kind} of marked ? [...series, {name: 'no more from here on', kind: 'from-here'}] : series) {
    const span = document.createElement('span');
    span.className = kind;
    span.textContent = name;
    names.append(span);
  }
  place.append(names);
}
