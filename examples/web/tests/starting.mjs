// SPDX-License-Identifier: MIT
//
// What does not start, and what comes late: the library and the model that came with the page.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {test} from 'node:test';
import {hold, model, release, textOf, until, withHold, withPage, work} from './browser.mjs';

const settled = (page) => until(page, () => document.querySelector('#explorer-result').getAttribute('aria-busy') === 'false');

const named = (page, name) =>
  until(page, (start) => document.querySelector('#model-name').textContent.startsWith(start), `${name}: `);

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

test('a model that was not fetched is fetched again', async () => {
  for (const again of ['writer', 'weights']) {
    let times = 0;
    const before = (page) =>
      page.route('**/story.safetensors', (route) => (++times > 1 ? route.continue() : route.fulfill({status: 404, body: ''})));
    await withPage(
      'writer',
      async (page) => {
        await until(page, () => !document.querySelector('#failure').hidden);
        assert.match(await textOf(page, '#failure'), /^there is no model beside this page \(story\.safetensors: 404\)$/);
        await page.click('#tab-explorer');
        await page.click(`#tab-${again}`);
        await named(page, 'story.safetensors');
        assert.equal(await page.locator('#failure').isVisible(), false);
        assert.equal(times, 2);
      },
      {before, expected: /status of 404|did not get .*story\.safetensors$/},
    );
  }
});

test("a file of one's own stays, however late the built-in model comes", async () => {
  const own = path.join(work, 'own.safetensors'),
    text = path.join(work, 'stories.txt');
  fs.copyFileSync(model, own);
  for (const state of ['taken', 'asked for', 'refused']) {
    let arrive;
    const late = new Promise((resolve) => {
      arrive = resolve;
    });
    const before = async (page) => {
      await withHold.before(page);
      await page.route('**/story.safetensors', async (route) => {
        await late;
        await route.continue();
      });
    };
    await withPage(
      'writer',
      async (page) => {
        if (state === 'asked for') await hold(page);
        await page.setInputFiles('#model-file', state === 'refused' ? text : own);
        if (state === 'taken') await named(page, 'own.safetensors');
        if (state === 'refused') await until(page, () => !document.querySelector('#writer-problem').hidden);
        const fetched = page.waitForEvent('requestfinished', (request) => request.url().endsWith('/story.safetensors'));
        arrive();
        await fetched;
        if (state === 'asked for') await release(page);
        await page.evaluate(async () => {
          const {loadBuiltIn} = await import('./js/model.js');
          await loadBuiltIn();
        });
        await named(page, state === 'refused' ? 'story.safetensors' : 'own.safetensors');
        assert.equal(await page.locator('#failure').isVisible(), false);
      },
      {before},
    );
  }
});

test('of two files that are picked, one right after the other, the second one stays', async () => {
  const files = ['own', 'other'].map((name) => path.join(work, `${name}.safetensors`));
  for (const file of files) fs.copyFileSync(model, file);
  await withPage(
    'writer',
    async (page) => {
      await named(page, 'story.safetensors');
      await hold(page);
      for (const file of files) await page.setInputFiles('#model-file', file);
      await release(page);
      await named(page, 'other.safetensors');
    },
    withHold,
  );
});
