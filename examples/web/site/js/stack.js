// SPDX-License-Identifier: MIT
//
// A stack as the controls know it: a list of layers, each as a recipe names it, and a schedule.

/** The mixers that can be chosen. */
export const mixers = [
  'ab',
  'channel',
  'matrix',
  'gated',
  'gated-pair',
  'fusion',
  'softmax-local',
  'softmax-local:taps=3',
  'ema',
  'linear-attention',
  'hkt',
];

export const isAttention = (layer) => layer.startsWith('attention');

/** ["ab", "ab", "attention"] as "2*ab,attention". */
export function recipeOf(layers) {
  const items = [];
  for (const layer of layers) {
    const last = items.at(-1);
    if (last?.layer === layer) ++last.count;
    else items.push({layer, count: 1});
  }
  return items.map(({layer, count}) => (count > 1 ? `${count}*` : '') + layer).join(',');
}

/** The schedule's text from what the controls hold. */
export function scheduleOf({kind, number, list, reversed, rotated}) {
  const text = {dyadic: 'dyadic', cyclic: `cyclic=${number}`, geometric: `geometric=${number}`, list: `list=${list}`}[kind];
  return (reversed ? 'reversed:' : '') + (rotated ? 'rotated:' : '') + text;
}

/** What the controls must hold for a schedule's text. */
export function scheduleFrom(text) {
  const parts = text.split(':');
  const [kind, value = ''] = parts.pop().split('=');
  return {
    kind,
    number: kind === 'list' ? '3' : value || '3',
    list: kind === 'list' ? value : '1,2,3,5,8',
    reversed: parts.includes('reversed'),
    rotated: parts.includes('rotated'),
  };
}

/** A list of shifts with an entry for each layer: cut, or gone on by doubling. */
export function fitted(list, count) {
  const shifts = list
    .split(',')
    .map((shift) => shift.trim())
    .filter(Boolean);
  while (shifts.length > 0 && shifts.length < count) shifts.push(String(2 * Number(shifts.at(-1))));
  return shifts.slice(0, count).join(',');
}

/** Stacks to begin with. */
export const presets = [
  {name: 'Dyadic', layers: Array(5).fill('ab'), schedule: 'dyadic', context: 32},
  {name: 'Cyclic: many paths', layers: Array(8).fill('ab'), schedule: 'cyclic=3', context: 32},
  {name: 'Powers of 3: holes', layers: Array(4).fill('gated'), schedule: 'geometric=3', context: 48},
  {name: 'Three taps', layers: Array(3).fill('softmax-local:taps=3'), schedule: 'geometric=3', context: 27},
  {name: 'Fibonacci', layers: Array(6).fill('gated-pair'), schedule: 'list=1,2,3,5,8,13', context: 33},
  {name: 'Rotated heads', layers: Array(4).fill('ab:heads=4'), schedule: 'rotated:dyadic', context: 33},
  {name: 'Hybrid', layers: ['ab', 'ab', 'ab', 'attention', 'ab', 'ab', 'ab'], schedule: 'dyadic', context: 128},
];
