// SPDX-License-Identifier: MIT
//
// Twenty stacks, as the controls of the explorer say them.
export const stacks = [
  ['5*ab', 'dyadic', 32],
  ['7*ab', 'dyadic', 128],
  ['8*channel', 'cyclic=4', 31],
  ['8*ab', 'cyclic=3', 64],
  ['3*fusion', 'geometric=3', 100],
  ['4*gated', 'geometric=3', 48],
  ['3*softmax-local:taps=3', 'geometric=3', 27],
  ['6*gated-pair', 'list=1,2,3,5,8,13', 33],
  ['4*ab:heads=4', 'rotated:dyadic', 33],
  ['5*matrix:heads=8', 'reversed:rotated:dyadic', 64],
  ['3*ab,attention,3*ab', 'dyadic', 128],
  ['attention,5*matrix,attention', 'dyadic', 128],
  ['4*attention', 'dyadic', 256],
  ['2*attention:window=16,2*ab', 'dyadic', 100],
  ['ab,attention:block=16:top=2,gated', 'cyclic=2', 200],
  ['2*ema,2*linear-attention,hkt', 'dyadic', 50],
  ['16*ab', 'cyclic=2', 40],
  ['9*ab', 'dyadic', 100000],
  ['3*gated:heads=4,ab:heads=8,ab:heads=1,2*attention:heads=1', 'rotated:list=5,1,2,9,3,4,8', 60],
  ['softmax-local:heads=2:taps=3,gated,ab', 'reversed:geometric=4', 90],
].map(([layers, schedule, context], i) => ({
  layers,
  schedule,
  context,
  width: i % 3 === 0 ? 64 : 128,
  feed_forward: i % 2 === 0 ? 512 : 200,
}));

/** The options of `hsm_lm info` for a stack. */
export const options = ({layers, schedule, context, width, feed_forward}) => [
  '--layers',
  layers,
  '--schedule',
  schedule,
  '--context',
  String(context),
  '--width',
  String(width),
  '--feed-forward',
  String(feed_forward),
];
