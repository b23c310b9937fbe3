// SPDX-License-Identifier: MIT
//
// The story writer: begins a text, writes on, takes it back to a mark, or forks it there.
import {$, make, showValue, tell} from './dom.js';
import {call} from './engine.js';
import {counted, shortRecipe, whole} from './format.js';
import * as meters from './meters.js';
import {loadFile, onModel} from './model.js';
import {StoryText} from './story_text.js';

const longest = 6000,
  most_branches = 12; // tokens, and branches, that the page keeps

let text;
let branches = []; // by number: {ids, given, name}
let current = 0;
let writing = null; // the promise of the loop that writes
let stopping = false;
let queue = Promise.resolve(); // what waits for its turn with the library, the beginning of the loop too

const branch = () => branches[current];

/** Runs f when nobody writes, and tells what it refuses; resolves to whether it did not. */
function alone(f) {
  stopping = true;
  queue = queue.then(async () => {
    stopping = true;
    await writing;
    stopping = false;
    try {
      await f();
      tell($('writer-problem'), '');
      return true;
    } catch (error) {
      tell($('writer-problem'), error.message);
      return false;
    }
  });
  return queue;
}

/** Shows a branch as the library has it. */
function show(number, answer) {
  current = number;
  branch().ids = answer?.ids ?? branch().ids;
  text.show(branch().ids, branch().given);
  if (answer) branch().answer = answer;
  meters.showState(branch().answer);
  const focused = $('branches').contains(document.activeElement);
  $('branches').hidden = branches.length < 2;
  $('branches').replaceChildren(
    ...branches.map(({name}, i) =>
      make(
        'button',
        {
          type: 'button',
          role: 'tab',
          'aria-selected': String(i === current),
          onclick: () => alone(() => show(i)),
        },
        name,
      ),
    ),
  );
  if (focused) $('branches').children[current].focus(); // the buttons are new ones
}

const begin = () =>
  alone(async () => {
    const answer = await call({call: 'begin', prompt: $('prompt').value, seed: Number($('seed').value)});
    meters.reset();
    branches = [{name: 'first', given: answer.ids.length}];
    show(0, answer);
  });

const takeBack = () =>
  alone(async () => {
    if (text.mark === text.length) return;
    show(current, await call({call: 'rewind', branch: current, length: text.mark}));
    branch().given = Math.min(branch().given, text.mark);
  });

async function fork() {
  const done = await alone(async () => {
    if (branches.length === most_branches) throw new Error(`This page keeps ${most_branches} branches; begin again.`);
    const length = text.mark,
      seed = Number($('seed').value) + branches.length;
    const answer = await call({call: 'fork', branch: current, length, seed});
    branches[answer.branch] = {name: `at ${whole(length)}, seed ${seed}`, given: length};
    show(answer.branch, answer);
  });
  if (done) startWriting();
}

/** How many tokens to ask for, by the pace and by what the last ones took. */
function portion(pace, last) {
  if (pace > 0) return Math.max(1, Math.round(pace / 30));
  return last ? Math.max(1, Math.min(64, Math.round((last.n * 24) / Math.max(1, last.ms)))) : 4;
}

async function writeOn() {
  const number = current,
    own = branch();
  let last = null,
    due = performance.now();
  text.setMark(text.length);
  try {
    while (!stopping) {
      if (own.ids.length >= longest)
        throw new Error(`This page stops at ${counted(longest, 'token')}; the model would not.`);
      const pace = Number($('pace').value),
        n = portion(pace, last);
      const answer = await call({call: 'write', branch: number, tokens: n, temperature: Number($('temperature').value)});
      last = {n, ms: answer.milliseconds};
      own.ids.push(...answer.ids);
      own.answer = answer;
      text.append(answer.ids);
      meters.count(n, answer.milliseconds);
      meters.showState(answer);
      due = Math.max(due + (pace > 0 ? (1000 * n) / pace : 0), performance.now());
      await new Promise((done) => (pace > 0 ? setTimeout(done, due - performance.now()) : requestAnimationFrame(done)));
    }
  } catch (error) {
    tell($('writer-problem'), error.message);
  }
}

/** Writes on when what waits is done, unless somebody writes then or the writer is not shown any more. */
function startWriting() {
  queue = queue.then(() => {
    if (writing || branches.length === 0 || $('writer').hidden) return;
    stopping = false;
    tell($('writer-problem'), '');
    $('write').textContent = 'Pause';
    writing = writeOn().then(() => {
      writing = null;
      $('write').textContent = 'Write';
    });
  });
}

/** What the button says. */
function write() {
  if (writing) stopping = true;
  else startWriting();
}

function marked(mark, length) {
  const end = mark === length;
  $('take-back').disabled = end;
  $('place').textContent = end
    ? `Mark: the end, ${counted(length, 'token')}`
    : `Mark: behind token ${whole(mark)} of ${whole(length)}`;
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Backspace') takeBack();
  else if (event.key === 'f' || event.key === 'F') fork();
  else if (event.key === ' ') write();
  else if (!text.key(event)) return;
  event.preventDefault();
}

export function startWriter() {
  text = new StoryText($('story'));
  text.onMark(marked);
  document.querySelector('#writer form').addEventListener('submit', (event) => event.preventDefault());
  $('temperature').addEventListener('input', () => showValue($('temperature'), Number($('temperature').value).toFixed(2)));
  showValue($('temperature'), Number($('temperature').value).toFixed(2));
  $('write').addEventListener('click', write);
  $('again').addEventListener('click', begin);
  $('take-back').addEventListener('click', takeBack);
  $('fork').addEventListener('click', fork);
  $('story').addEventListener('keydown', key);
  $('model-file').addEventListener('change', () => {
    const [file] = $('model-file').files;
    $('model-file').value = ''; // the same one can be picked again
    if (file) alone(() => loadFile(file));
  });
  addEventListener('part', ({detail}) => {
    if (detail !== 'writer' && writing) stopping = true;
  });
  onModel(({info, name}) => {
    const layers = shortRecipe(info.layers).replaceAll(',', ', ');
    $('model-name').textContent = `${name}: ${counted(info.parameters, 'parameter')}, ${layers}, schedule ${info.schedule}.`;
    begin();
  });
}
