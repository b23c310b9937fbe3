// SPDX-License-Identifier: MIT
//
// The three parts of the page as tabs; the address says which is open. The model is fetched when one needs it.
import {$, tell} from './dom.js';
import {startExplorer} from './explorer.js';
import {loadBuiltIn, onModel} from './model.js';
import {startWeights} from './weights.js';
import {startWriter} from './writer.js';

const tabs = [...document.querySelectorAll('.tabs [role=tab]')];
const started = new Set();
let shown = ''; // the part that is open
const start = {explorer: startExplorer, writer: startWriter, weights: startWeights};
const usesModel = (name) => name !== 'explorer';

async function open(name) {
  shown = name;
  for (const tab of tabs) {
    const chosen = tab.getAttribute('aria-controls') === name;
    tab.setAttribute('aria-selected', chosen);
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute('aria-controls')).hidden = !chosen;
  }
  window.dispatchEvent(new CustomEvent('part', {detail: name}));
  try {
    if (!started.has(name)) {
      started.add(name);
      await start[name]();
    }
    if (usesModel(name)) await loadBuiltIn();
  } catch (error) {
    tell($('failure'), error.message);
  }
}

const named = () => tabs.map((tab) => tab.getAttribute('aria-controls')).find((name) => `#${name}` === location.hash);

for (const [i, tab] of tabs.entries()) {
  tab.addEventListener('click', () => {
    const name = tab.getAttribute('aria-controls');
    if (name === shown) return;
    history.pushState(null, '', `#${name}`); // a new location.hash would take the focus from the tab
    open(name);
  });
  tab.addEventListener('keydown', (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
    event.preventDefault();
  });
}
onModel(() => tell($('failure'), ''));
addEventListener('hashchange', () => open(named() ?? 'explorer'));
open(named() ?? 'explorer');
