// SPDX-License-Identifier: MIT
//
// The figures of a stack, as `hsm_lm info` tells them.
import {drawChart} from './chart.js';
import {$, make} from './dom.js';
import {bytes, counted, short, shortRecipe, whole} from './format.js';

function facts({info}) {
  const everything = info.sees_all ? 'the whole context; of the shifts ' : '';
  const reach = `${everything}${counted(info.reach, 'token')}, the one itself counted`;
  const state =
    bytes(info.state.bytes) +
    (info.state.bytes_per_token > 0 ? `, and ${bytes(info.state.bytes_per_token)} more with each token` : '');
  return [
    ['Parameters', whole(info.parameters), 'parameters'],
    ['Reach', reach, 'reach'],
    ['Coverage', info.coverage_text, 'coverage'],
    ['Holes', info.coverage ? info.holes_text : 'not counted', 'holes'],
    ['State of a stream', state, 'state-size'],
  ];
}

const cells = (tag, row) =>
  make('tr', {}, ...row.map((text, i) => make(i === 0 ? 'th' : tag, i === 0 ? {scope: 'row'} : {}, text)));

function showLayers({stack}) {
  const head = make(
    'tr',
    {},
    ...['Layer', 'Mixer', 'Shifts of its heads', 'Parameters', 'of these the mixer'].map((text) =>
      make('th', {scope: 'col'}, text),
    ),
  );
  const rows = stack
    .map((layer, l) =>
      cells('td', [
        String(l),
        shortRecipe(layer.mixer),
        layer.shifts.length ? layer.shifts.map(whole).join(', ') : 'all tokens',
        whole(layer.parameters),
        whole(layer.mixer_parameters),
      ]),
    )
    .reverse();
  const table = $('layers');
  table.replaceChildren(table.caption, make('thead', {}, head), make('tbody', {}, ...rows));
}

const curves = [
  ['generation', 'chart-generation', short, 10],
  ['training', 'chart-training', short, 10],
  ['state_bytes', 'chart-state', bytes, 4],
];

function showCurves({info, curves: {stack, attention}}) {
  for (const [key, id, label, base] of curves) {
    const series = [{name: 'this stack', kind: 'own', points: stack.map((cost) => [cost.context, cost[key]])}];
    if (attention)
      series.push({name: 'attention of equal size', kind: 'other', points: attention.map((cost) => [cost.context, cost[key]])});
    drawChart($(id), series, {label, base, mark: info.attention?.no_more_from[key.replace('_bytes', '')] ?? null});
  }
  if (!info.attention) {
    $('overtakes').textContent = info.stack.every(({shifts}) => shifts.length === 0)
      ? ''
      : 'No attention alone is as small as this stack.';
    return;
  }
  const from = (context) => (context === null ? 'never' : `from T = ${whole(context)} on`);
  const {training, generation, state} = info.attention.no_more_from;
  $('overtakes').textContent =
    `It costs no more than ${shortRecipe(info.attention.layers)} of as many parameters: generation ${from(generation)}, ` +
    `training ${from(training)}, state ${from(state)}.`;
}

/** Shows the answer to `asked`. */
export function showReport(answer, asked) {
  const {info} = answer;
  $('facts').replaceChildren(
    ...facts(answer).map(([name, text, id]) =>
      make('div', {class: id}, make('dt', {}, name), make('dd', {id: `fact-${id}`}, text)),
    ),
  );
  $('warnings').replaceChildren(...info.warnings.map((text) => make('li', {}, text)));
  showLayers(info);
  showCurves(answer);
  $('command').textContent =
    `hsm_lm info --layers ${asked.layers} --schedule ${asked.schedule} --width ${asked.width} ` +
    `--feed-forward ${asked.feed_forward} --context ${asked.context}`;
}
