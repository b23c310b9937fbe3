// SPDX-License-Identifier: MIT
//
// The weights of page.cpp as one row for each token: how much comes from token 0, 1, ... up to itself.

function headRow(head, t, row) {
  const weights = head.rows[t];
  if (head.distances.length === 0)
    weights.forEach((w, j) => {
      row[j] += w;
    });
  else
    weights.forEach((w, k) => {
      if (head.distances[k] <= t) row[t - head.distances[k]] += w;
    });
}

/** What token t takes from each of T tokens in a layer; of head `h`, or the mean of all where it is -1. */
export function sourcesOf(layer, h, t, T) {
  const row = new Array(T).fill(0);
  const heads = h < 0 || layer.heads.length === 0 ? layer.heads : [layer.heads[h % layer.heads.length]];
  for (const head of heads) headRow(head, t, row);
  return row.map((w) => w / Math.max(1, heads.length));
}

/** How dark a weight is shown, 0 to 1: small ones can be seen too. */
export const shade = (w) => Math.min(1, Math.abs(w)) ** 0.6;

/** A token that can be seen. */
export const visible = (piece) => ({' ': '␣', '\n': '↵', '': '·'})[piece] ?? piece;
