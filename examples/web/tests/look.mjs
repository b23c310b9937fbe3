// SPDX-License-Identifier: MIT
//
// Pictures of the page, light and dark, on a phone and on a desk; nothing is wider than the screen, and the page is light
// to fetch.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {test} from 'node:test';
import {until, withPage, work} from './browser.mjs';

const pictures = path.join(work, 'pictures');
fs.mkdirSync(pictures, {recursive: true});

const shown = {
  explorer: async (page) => {
    await until(page, () => document.querySelector('#facts').children.length > 0);
    await page.getByRole('button', {name: 'Hybrid'}).click();
    await until(
      page,
      () =>
        document.querySelector('#recipe').value.includes('attention') &&
        document.querySelector('#explorer-result').getAttribute('aria-busy') === 'false',
    );
  },
  writer: async (page) => {
    await until(page, () => document.querySelector('#story').textContent.length > 0);
    await page.selectOption('#pace', '0');
    await page.click('#write');
    await until(page, () => document.querySelector('#story').textContent.length > 700);
    await page.click('#write');
  },
  weights: async (page) => until(page, () => document.querySelector('#check').textContent.length > 0),
};

for (const colorScheme of ['light', 'dark']) {
  for (const width of [390, 1280]) {
    test(`every part fits ${width} pixels, ${colorScheme}`, async () => {
      const grounds = new Set();
      for (const [part, show] of Object.entries(shown)) {
        await withPage(
          part,
          async (page) => {
            await show(page);
            await page.screenshot({path: path.join(pictures, `${part}-${colorScheme}-${width}.png`), fullPage: true});
            assert.ok(
              (await page.evaluate(() => document.documentElement.scrollWidth)) <= width,
              `${part} is wider than the screen`,
            );
            grounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
          },
          {width, colorScheme},
        );
      }
      const [red] = [...grounds][0].match(/\d+/g).map(Number);
      assert.equal(grounds.size, 1);
      assert.equal(red > 128, colorScheme === 'light');
    });
  }
}

test('all that the page fetches is below 6 MB', async () => {
  let bytes = 0;
  await withPage('explorer', async (page, requests) => {
    for (const part of ['explorer', 'writer', 'weights']) {
      await page.locator(`#tab-${part}`).click();
      await shown[part](page);
    }
    for (const request of requests) bytes += (await (await request.response()).body()).length;
    assert.ok(requests.some((request) => request.url().endsWith('/hsm.wasm')));
  });
  console.log(`web: the page fetches ${bytes} bytes, its model counted`);
  assert.ok(bytes > 1e6 && bytes < 6e6, `${bytes}`);
});
