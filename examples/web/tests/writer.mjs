// SPDX-License-Identifier: MIT
//
// The story writer: its text is the tool's, it is taken back and forked, and it takes other files.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import {test} from 'node:test';
import {hold, model, release, textOf, tool, until, withHold, withPage, work} from './browser.mjs';

const prompt = 'One day Olga and Hanna met on the road.';

const story = (page) => page.locator('#story').evaluate((place) => place.textContent);

async function begin(page, temperature, seed = 1) {
  await until(page, () => document.querySelector('#story').textContent.length > 0);
  await page.fill('#prompt', prompt);
  await page.locator('#temperature').fill(String(temperature));
  await page.fill('#seed', String(seed));
  await page.selectOption('#pace', '0');
  await page.click('#again');
  await until(page, (text) => document.querySelector('#story').textContent === text, prompt);
}

/** Lets it write until the text has so many bytes at least; it is ASCII. */
async function write(page, length) {
  await page.click('#write');
  await until(page, (n) => document.querySelector('#story').textContent.length >= n, length);
  if ((await textOf(page, '#write')) === 'Pause') await page.click('#write');
  await until(page, () => document.querySelector('#write').textContent === 'Write');
  return story(page);
}

/** Clicks behind the first n tokens. */
const mark = (page, n) =>
  page
    .locator('#story span')
    .nth(n - 1)
    .evaluate((piece) => {
      const box = piece.getBoundingClientRect();
      piece.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: box.right - 0.1, clientY: box.top + 1}));
    });

test("the text at temperature 0 is the tool's, byte for byte", async () => {
  const tokens = 500;
  const {status, out, told} = tool(
    'generate',
    '--model',
    model,
    '--prompt',
    prompt,
    '--temperature',
    '0',
    '--tokens',
    String(tokens),
    '--threads',
    '1',
  );
  assert.equal(status, 0, told);
  await withPage('writer', async (page) => {
    await begin(page, 0);
    const text = (await write(page, prompt.length + tokens)).slice(0, prompt.length + tokens);
    const expected = out.slice(0, prompt.length + tokens);
    const same = [...expected].findIndex((letter, i) => letter !== text[i]);
    assert.equal(text, expected, `they part at byte ${same}: WebAssembly and this processor round differently`);
    assert.equal(expected.length, prompt.length + tokens);
  });
});

test('a text that is taken back is written again, and a fork goes on otherwise', async () => {
  await withPage('writer', async (page) => {
    await begin(page, 0.8, 5);
    const whole = await write(page, 1400),
      cut = 100;
    await mark(page, cut);
    assert.match(await textOf(page, '#place'), /behind token 100 of/);
    await page.click('#take-back'); // further than the states have room for: it is read again
    await until(page, (n) => document.querySelector('#story').textContent.length === n, cut);
    assert.equal((await write(page, 400)).slice(0, 400), whole.slice(0, 400));
    await mark(page, 150);
    await page.locator('#story').focus();
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('Backspace');
    await until(page, () => document.querySelector('#story').textContent.length === 149);
    assert.equal((await write(page, 400)).slice(0, 400), whole.slice(0, 400));
    await mark(page, 200);
    await page.locator('#story').focus();
    await page.keyboard.press('f'); // writes on at once
    await until(
      page,
      () =>
        document.querySelectorAll('#branches button').length === 2 && document.querySelector('#story').textContent.length > 320,
    );
    await page.click('#write');
    await until(page, () => document.querySelector('#write').textContent === 'Write');
    const other = await story(page);
    assert.equal(other.slice(0, 200), whole.slice(0, 200));
    assert.notEqual(other.slice(200, 320), whole.slice(200, 320));
    await page.locator('#branches button').first().click();
    await until(page, (text) => document.querySelector('#story').textContent.startsWith(text), whole.slice(0, 400));
  });
});

test('a fork past the last branch is refused and changes nothing', async () => {
  await withPage('writer', async (page) => {
    await begin(page, 0.8, 5);
    await page.locator('#story').focus();
    for (let branches = 2; branches <= 12; ++branches) {
      await page.keyboard.press('f');
      await until(page, (n) => document.querySelectorAll('#branches button').length === n, branches);
    }
    await page.keyboard.press('f');
    await until(page, () => document.querySelector('#writer-problem').textContent.includes('12 branches'));
    const text = await story(page);
    await page.waitForTimeout(300);
    assert.equal(await story(page), text);
    assert.match(await textOf(page, '#writer-problem'), /12 branches/);
  });
});

/** The text of a branch as the library has it. */
const kept = (page, branch) =>
  page.evaluate(async (number) => {
    const {call} = await import('./js/engine.js');
    const ask = (length) => call({call: 'rewind', branch: number, length});
    const {message} = await ask(1e6).catch((error) => error);
    const {ids} = await ask(Number(message.match(/back to 1 to (\d+) tokens/)[1]));
    return String.fromCharCode(...ids);
  }, branch);

test('Write and Space before the answer to a fork or a beginning leave every branch whole', async () => {
  await withPage(
    'writer',
    async (page) => {
      const writing = (length) => until(page, (n) => document.querySelector('#story').textContent.length > n, length);
      const pause = async () => {
        assert.equal(await textOf(page, '#write'), 'Pause');
        await page.click('#write');
        await until(page, () => document.querySelector('#write').textContent === 'Write');
      };
      await begin(page, 0.8, 5);
      const first = await write(page, 200);
      for (const [last, press] of [
        [1, () => page.keyboard.press('Space')],
        [2, () => page.click('#write')],
        [4, () => page.keyboard.press('f').then(() => page.keyboard.press('Space'))], // forks the fork
      ]) {
        if (last > 1) await page.locator('#branches button').first().click();
        await until(page, (text) => document.querySelector('#story').textContent === text, first);
        await mark(page, 100);
        await page.locator('#story').focus();
        await hold(page);
        await page.keyboard.press('f');
        await press();
        await release(page);
        await until(page, (n) => document.querySelectorAll('#branches button').length === n, last + 1);
        await writing(220);
        await pause();
        const text = await story(page);
        assert.equal(text.slice(0, 100), first.slice(0, 100));
        assert.equal(await kept(page, last), text);
        assert.equal(await kept(page, 0), first);
      }
      assert.equal(await kept(page, 3), first.slice(0, 100));
      await hold(page);
      await page.click('#again'); // branch 4 is shown, and soon not there any more
      await page.click('#write');
      await release(page);
      await until(page, () => document.querySelector('#branches').hidden);
      await writing(prompt.length + 20);
      await pause();
      assert.equal(await textOf(page, '#writer-problem'), '');
      assert.equal(await kept(page, 0), await story(page));
      await hold(page);
      await page.click('#fork');
      await page.click('#tab-explorer'); // whoever leaves lets it rest
      await release(page);
      await until(page, () => document.querySelectorAll('#branches button').length === 2);
      await page.evaluate(async () => {
        const {call} = await import('./js/engine.js');
        await call({call: 'weights', text: 'Olga'});
      });
      assert.equal(await page.locator('#write').evaluate((button) => button.textContent), 'Write');
    },
    withHold,
  );
});

test('the text ends where the page stops, and goes on when it is taken back', async () => {
  const stops = () =>
    document.querySelector('#writer-problem').textContent.startsWith('This page stops at 6,000 tokens') &&
    document.querySelector('#write').textContent === 'Write';
  await withPage('writer', async (page) => {
    await begin(page, 0.6);
    await page.click('#write');
    await until(page, stops);
    for (let i = 0; i < 2; ++i) {
      await page.locator('#writer-problem').evaluate((problem) => {
        problem.textContent = '';
      });
      await page.click('#write');
      await until(page, stops);
    }
    await mark(page, 5900);
    await page.click('#take-back');
    await until(page, () => document.querySelector('#story').childElementCount === 5900);
    await page.click('#write');
    await until(page, stops);
    assert.ok((await page.locator('#story').evaluate((place) => place.childElementCount)) >= 6000);
  });
});

test('a click beside the lines marks the place to its left', async () => {
  await withPage('writer', async (page) => {
    await begin(page, 0.6);
    await write(page, 120);
    const box = await page.locator('#story').boundingBox();
    const first = await page.locator('#story span').first().boundingBox();
    await page.mouse.click(box.x + 0.4 * box.width, first.y + 1.2 * first.height); // between two lines
    const between = await textOf(page, '#place');
    assert.match(between, /behind token \d+ of/);
    await page.mouse.click(box.x + box.width - 3, first.y + 0.5 * first.height); // right of the first one
    const [, end] = (await textOf(page, '#place')).match(/behind token (\d+) of/);
    assert.ok(Number(end) > Number(between.match(/\d+/)[0]));
    await page.mouse.click(box.x + box.width - 3, box.y + box.height - 3); // below them all
    assert.match(await textOf(page, '#place'), /: the end, /);
  });
});

test('parts and branches keep the focus that the keyboard gave them', async () => {
  await withPage('explorer', async (page) => {
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    await page.locator('#tab-explorer').focus();
    for (const part of ['writer', 'weights']) {
      await page.keyboard.press('ArrowRight');
      assert.equal(await focused(), `tab-${part}`);
      assert.equal(new URL(page.url()).hash, `#${part}`);
    }
    await page.goBack();
    await page.locator('#writer').waitFor();
    await until(page, () => document.querySelector('#story').textContent.length > 0);
    await page.locator('#story').focus();
    await page.keyboard.press('f');
    await until(page, () => document.querySelectorAll('#branches button').length === 2);
    await page.keyboard.press('Space');
    await page.locator('#branches button').first().focus();
    await page.keyboard.press('Enter');
    await until(page, () => document.querySelector('#branches button').getAttribute('aria-selected') === 'true');
    assert.equal(await focused(), 'first');
  });
});

test("a file of one's own is taken, another one is refused by a sentence", async () => {
  const own = path.join(work, 'own.safetensors'),
    text = path.join(work, 'stories.txt');
  fs.copyFileSync(model, own);
  await withPage('writer', async (page) => {
    await until(page, () => document.querySelector('#story').textContent.length > 0);
    await page.setInputFiles('#model-file', text);
    await until(page, () => /stories\.txt: /.test(document.querySelector('#writer-problem').textContent));
    assert.match(await textOf(page, '#model-name'), /^story\.safetensors: /);
    await page.setInputFiles('#model-file', own);
    await until(page, () => document.querySelector('#model-name').textContent.startsWith('own.safetensors: '));
    await write(page, 80);
    assert.equal(await textOf(page, '#writer-problem'), '');
    await page.fill('#prompt', '');
    await page.click('#again');
    await until(
      page,
      () => document.querySelector('#writer-problem').textContent === 'the beginning must have at least 1 byte, got none',
    );
  });
});

test('how fast it is beside the tool, for the record', async () => {
  const {told} = tool(
    'generate',
    '--model',
    model,
    '--prompt',
    prompt,
    '--temperature',
    '0.6',
    '--tokens',
    '2000',
    '--threads',
    '1',
    '--seed',
    '1',
  );
  const native = Number(told.match(/decode \d+ tokens, (\d+) tokens\/s/)[1]);
  await withPage('writer', async (page) => {
    await begin(page, 0.6);
    await write(page, 2000);
    const speed = Number((await textOf(page, '#speed')).replaceAll(',', ''));
    assert.ok(speed > 0);
    console.log(
      `web: the page writes ${speed} tokens/s, the tool with one thread ${native}: ${(speed / native).toFixed(2)} times as many`,
    );
  });
});
