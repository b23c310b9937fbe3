// SPDX-License-Identifier: MIT
//
// The drawing of a stack, which the library makes (examples/support/stack_picture.hpp), and the choice of an offset in it.
import {$} from './dom.js';
import {counted} from './format.js';

let shown = null; // {picture, info, from}
let ask = () => {};

/** The width that a drawing should have. */
export const pictureWidth = () => Math.max(300, Math.min(980, Math.floor($('picture').clientWidth)));

function sentence({picture, info, from}) {
  const {coverage} = info;
  if (from < 0) {
    const holes = coverage.holes > 0 && !info.sees_all ? ' A red one is a hole.' : '';
    return `Choose an offset to see its paths alone.${holes}` + (picture.notes.length ? ` ${picture.notes.join(' ')}` : '');
  }
  const back = from === 0 ? 'The token itself' : `${counted(from, 'token')} back`;
  const paths = coverage.paths[from];
  if (paths === 0) return `${back}: no path of shifts${info.sees_all ? ', it rests on attention alone.' : ', a hole.'}`;
  return `${back}: ${paths === null ? 'more paths than can be counted' : counted(paths, 'path')}.`;
}

/** Shows the answer of "explore", in which the offset `from` is chosen, -1 for none. */
export function showPicture({info, picture}, from) {
  $('picture').replaceChildren();
  shown = null;
  if (!picture) {
    $('picture').textContent = `There is no picture: coverage ${info.coverage_text}`;
    $('offset').textContent = '';
    return;
  }
  shown = {picture, info, from};
  $('picture').innerHTML = picture.svg; // of the library, which escapes what it writes
  $('picture').firstElementChild.setAttribute('aria-hidden', 'true');
  $('offset').textContent = sentence(shown);
}

function choose(from) {
  const next = shown && Math.max(-1, Math.min(shown.picture.tokens - 1, from));
  if (!shown || next === shown.from) return;
  shown.from = next; // keys may come faster than answers
  ask(next);
}

/** `chosen(from)` is told of each offset that is chosen. */
export function startPicture(chosen) {
  ask = chosen;
  const figure = $('picture').closest('figure');
  $('picture').addEventListener('click', (event) => {
    if (!shown) return;
    const box = $('picture').firstElementChild.getBoundingClientRect();
    const {left, pitch, tokens} = shown.picture;
    const column = Math.floor((event.clientX - box.left - left) / pitch);
    const from = column < 0 || column >= tokens ? -1 : tokens - 1 - column;
    choose(from === shown.from ? -1 : from);
  });
  figure.addEventListener('keydown', (event) => {
    if (!shown) return;
    const next = {ArrowLeft: shown.from + 1, ArrowRight: shown.from - 1, Home: shown.picture.tokens - 1, End: 0, Escape: -1}[
      event.key
    ];
    if (next === undefined) return;
    choose(next);
    event.preventDefault();
  });
}
