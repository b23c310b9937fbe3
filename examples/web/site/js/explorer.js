// SPDX-License-Identifier: MIT
//
// The shift explorer: controls make a recipe, the library tells what it reaches, holds and costs.
import {$, make, showValue, tell} from './dom.js';
import {call, latest} from './engine.js';
import {pictureWidth, showPicture, startPicture} from './picture.js';
import {showReport} from './report.js';
import {fitted, isAttention, mixers, presets, recipeOf, scheduleFrom, scheduleOf} from './stack.js';

let layers = []; // as a recipe names them
let typed = false; // whether the recipe was typed and the layers are not yet those of it
let from = -1; // the offset whose paths stand out

const mixer = () => $('mixer').value + ($('heads').value ? `:heads=${$('heads').value}` : '');

function schedule() {
  return scheduleOf({
    kind: $('schedule').value,
    number: $('schedule-number').value,
    list: $('schedule-list').value,
    reversed: $('reversed').checked,
    rotated: $('rotated').checked,
  });
}

/** The request that the controls stand for. */
function request() {
  return {
    call: 'explore',
    layers: $('recipe').value,
    schedule: schedule(),
    width: Number($('width').value),
    feed_forward: Number($('feed-forward').value),
    context: Number($('context').value),
  };
}

function showControls() {
  $('layer-count').value = layers.length;
  showValue($('layer-count'), layers.length);
  const kind = $('schedule').value;
  $('number-label').hidden = kind !== 'cyclic' && kind !== 'geometric';
  $('number-label').firstChild.textContent = kind === 'cyclic' ? 'P ' : 'B ';
  $('list-label').hidden = kind !== 'list';
  $('chips').replaceChildren(
    ...layers.map((layer, l) =>
      make(
        'button',
        {
          type: 'button',
          'aria-pressed': String(isAttention(layer)),
          'aria-label': `layer ${l} is attention`,
          onclick: () => {
            layers[l] = isAttention(layer) ? mixer() : 'attention';
            rebuilt();
            $('chips').children[l].focus();
          },
        },
        String(l),
      ),
    ),
  );
}

const show = latest(async (asked) => {
  $('explorer-result').setAttribute('aria-busy', 'true');
  try {
    const answer = await call({...asked, from, picture_width: pictureWidth()});
    tell($('explorer-problem'), '');
    showPicture(answer, from);
    showReport(answer, asked);
    if (typed && asked.layers === $('recipe').value) {
      typed = false;
      layers = answer.info.stack.map(({mixer}) => mixer);
      showControls();
    }
  } catch (error) {
    tell($('explorer-problem'), error.message);
  }
  $('explorer-result').setAttribute('aria-busy', 'false');
});

/** Something else than the layers is another now; a recipe that is typed stays. */
function changed() {
  from = -1;
  showControls();
  return show(request());
}

/** The layers are others now. */
function rebuilt() {
  typed = false;
  $('recipe').value = recipeOf(layers);
  return changed();
}

function take(preset) {
  layers = [...preset.layers];
  const [name, heads] = layers.find((layer) => !isAttention(layer)).split(':heads=');
  $('mixer').value = name;
  $('heads').value = heads ?? '';
  const {kind, number, list, reversed, rotated} = scheduleFrom(preset.schedule);
  $('schedule').value = kind;
  $('schedule-number').value = number;
  $('schedule-list').value = list;
  $('reversed').checked = reversed;
  $('rotated').checked = rotated;
  $('context').value = preset.context;
  return rebuilt();
}

function resize(count) {
  while (layers.length < count) layers.push(mixer());
  layers.length = count;
  if ($('schedule').value === 'list') $('schedule-list').value = fitted($('schedule-list').value, count);
}

export function startExplorer() {
  $('mixer').append(...mixers.map((name) => make('option', {value: name}, name)));
  $('heads').append(
    ...['', 1, 2, 4, 8, 16].map((count) => make('option', {value: count}, count === '' ? 'usual' : String(count))),
  );
  document
    .querySelector('.presets')
    .append(...presets.map((preset) => make('button', {type: 'button', onclick: () => take(preset)}, preset.name)));
  document.querySelector('#explorer form').addEventListener('submit', (event) => event.preventDefault());
  $('layer-count').addEventListener('input', () => {
    resize(Number($('layer-count').value));
    rebuilt();
  });
  for (const id of ['mixer', 'heads'])
    $(id).addEventListener('change', () => {
      layers = layers.map((layer) => (isAttention(layer) ? layer : mixer()));
      rebuilt();
    });
  $('schedule').addEventListener('change', () => {
    resize(layers.length);
    changed();
  });
  for (const id of ['schedule-number', 'schedule-list', 'reversed', 'rotated', 'context', 'width', 'feed-forward'])
    $(id).addEventListener('input', () => changed());
  $('recipe').addEventListener('input', () => {
    from = -1;
    typed = true;
    show(request());
  });
  startPicture((offset) => {
    from = offset;
    show(request());
  });
  let width = innerWidth;
  addEventListener('resize', () => {
    if (innerWidth !== width) {
      width = innerWidth;
      show(request());
    }
  });
  addEventListener('part', ({detail}) => {
    if (detail === 'explorer') show(request());
  });
  return take(presets[0]);
}
