// SPDX-License-Identifier: MIT
//
// What does not start: the library.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {textOf, until, withPage} from './browser.mjs';

const settled = (page) => until(page, () => document.querySelector('#explorer-result').getAttribute('aria-busy') === 'false');

test('where the library does not start, every call ends with a sentence', async () => {
  const sentence = /^the library does not start: /;
  const before = (page) => page.route('**/js/worker.js', (route) => route.fulfill({status: 404, body: ''}));
  await withPage(
    'explorer',
    async (page) => {
      await until(page, () => !document.querySelector('#explorer-problem').hidden);
      await settled(page);
      assert.match(await textOf(page, '#explorer-problem'), sentence);
      await page.fill('#context', '8'); // after it failed
      await settled(page);
      assert.match(await textOf(page, '#explorer-problem'), sentence);
      for (const part of ['writer', 'weights']) {
        await page.evaluate(() => {
          document.querySelector('#failure').hidden = true;
        });
        await page.click(`#tab-${part}`);
        await until(page, () => !document.querySelector('#failure').hidden);
        assert.match(await textOf(page, '#failure'), sentence);
      }
      await page.fill('#sentence', 'Olga');
      await until(page, () => !document.querySelector('#weights-problem').hidden);
      await page.click('#tab-writer');
      await page.click('#again');
      await until(page, () => !document.querySelector('#writer-problem').hidden);
      assert.match(await textOf(page, '#writer-problem'), sentence);
    },
    {before, expected: /status of 404|did not get .*worker\.js$/},
  );
});
