// SPDX-License-Identifier: MIT
//
// The weights: they give the library's layers, sum to what their formulas say, and the grid shows them.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {textOf, until, withPage} from './browser.mjs';

const ready = (page) => until(page, () => document.querySelector('#check').textContent.length > 0);

test('the weights are those that the library mixes by', async () => {
  await withPage('weights', async (page) => {
    await ready(page);
    const {layers, ids} = await page.evaluate(async () => {
      const {call} = await import('./js/engine.js');
      return call({call: 'weights', text: 'The bell belonged to Olga'});
    });
    assert.equal(ids.length, 25);
    assert.deepEqual(
      layers.map(({mixer}) => mixer.split(':')[0]),
      ['ab', 'gated', 'gated-pair', 'attention', 'softmax-local', 'ab'],
    );
    for (const {mixer, error, heads} of layers) {
      assert.ok(error < 1e-5, `${mixer}: ${error}`);
      for (const {distances, rows} of heads) {
        assert.equal(rows.length, ids.length);
        for (const [t, row] of rows.entries()) {
          if (mixer.startsWith('ab')) continue; // free values
          const sum = row.reduce((all, w) => all + w, 0);
          const whole = !mixer.startsWith('gated') || t >= distances[1]; // a gate of a pair that is there
          if (whole) assert.ok(Math.abs(sum - 1) < 2e-3, `${mixer}, token ${t}: ${sum}`);
          else assert.ok(sum > 0 && sum < 1, `${mixer}, token ${t}: ${sum}`);
        }
      }
    }
  });
});

test('the grid has a row for each layer and follows the token', async () => {
  await withPage('weights', async (page) => {
    await ready(page);
    await page.fill('#sentence', 'It was Olga.');
    await until(page, () => document.querySelectorAll('#grid .letter').length === 12);
    assert.equal(await page.locator('#grid i').count(), 6 * 12);
    assert.equal(await page.locator('#maps canvas').count(), 6);
    assert.match(await textOf(page, '#token-text'), /^Token 11 of 11, \., after “It was Olga”$/);
    await page.locator('#grid').focus();
    await page.keyboard.press('ArrowLeft');
    assert.match(await textOf(page, '#token-text'), /^Token 10 of 11, a, after “It was Olg”$/);
    await page.locator('#grid .letter').nth(3).click();
    assert.match(await textOf(page, '#token-text'), /^Token 3 of 11, w, /);
    const gated = page.locator('#grid i:not(.later)').and(page.locator('[title^="gated, 2: "]'));
    const titles = await gated.evaluateAll((cells) => cells.map((cell) => cell.title));
    const taken = titles.map((title) => Number(title.match(/: (-?[\d.]+) of/)[1]));
    assert.equal(taken.length, 4);
    assert.equal(taken[0] + taken[2], 0);
    assert.ok(Math.abs(taken[1] + taken[3] - 1) < 3e-3, titles.join('; '));
    await page.selectOption('#head', '1');
    await page.click('#tab-explorer');
    await page.click('#tab-weights'); // which asks again
    await page.evaluate(async () => {
      const {call} = await import('./js/engine.js');
      await call({call: 'weights', text: 'Olga'}); // and is answered before
    });
    assert.match(await textOf(page, '#token-text'), /^Token 3 of 11, w, /);
    assert.equal(await page.inputValue('#head'), '1');
    await page.fill('#sentence', 'It was Hanna.');
    await until(page, () => document.querySelector('#token-text').textContent.startsWith('Token 12 of 12, ., '));
    await page.fill('#sentence', '');
    await until(
      page,
      () => document.querySelector('#weights-problem').textContent === 'the sentence must have 1 to 160 tokens, got 0',
    );
  });
});
