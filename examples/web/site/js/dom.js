// SPDX-License-Identifier: MIT
//
// Elements of the page.

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** A new element with attributes and children; text is text, never markup. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children);
  return element;
}

/** Shows a sentence in an element that is hidden without one. */
export function tell(element, sentence) {
  element.textContent = sentence;
  element.hidden = !sentence;
}

/** Puts the output beside a range. */
export function showValue(input, text) {
  input.closest('label').querySelector('output').textContent = text ?? input.value;
}
