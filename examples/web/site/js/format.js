// SPDX-License-Identifier: MIT
//
// Numbers for people, as the tool prints them.

/** 1234567 as "1,234,567". */
export const whole = (value) => Number(value).toLocaleString('en-US');

/** "512 bytes", "1.5 KiB", "20.0 MiB". */
export function bytes(value) {
  if (value < 1024) return `${Math.round(value)} byte${Math.round(value) === 1 ? '' : 's'}`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
  let unit = 0;
  for (value /= 1024; value >= 1024 && unit < 5; value /= 1024) ++unit;
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** 0.25, 128, 20k, 1.5M. */
export function short(value) {
  let unit = '';
  for (const larger of ['k', 'M', 'G', 'T']) {
    if (!(Math.abs(value) >= 10000 || (unit && Math.abs(value) >= 1000))) break;
    value /= 1000;
    unit = larger;
  }
  return `${Number(value.toPrecision(4))}${unit}`;
}

/** A recipe without the options that are 0, which all mean none. */
export const shortRecipe = (recipe) => recipe.replaceAll(/:[a-z]+=0/g, '');

/** "1 token", "2 tokens". */
export const counted = (count, what) => `${whole(count)} ${what}${count === 1 ? '' : 's'}`;
