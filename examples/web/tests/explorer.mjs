// SPDX-License-Identifier: MIT
//
// The shift explorer: what it computes and what it shows is what the tool says.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {hold, release, textOf, tool, until, withHold, withPage} from './browser.mjs';
import {options, stacks} from './stacks.mjs';

const ready = (page) =>
  until(
    page,
    () =>
      document.querySelector('#explorer-result').getAttribute('aria-busy') === 'false' &&
      document.querySelector('#facts').children.length > 0,
  );

/** Sets the controls to a stack, and waits for its figures. */
async function choose(page, stack) {
  const parts = stack.schedule.split(':'),
    [kind, value] = parts.pop().split('=');
  await page.selectOption('#schedule', kind);
  for (const name of ['reversed', 'rotated']) await page.setChecked(`#${name}`, parts.includes(name));
  if (kind === 'list') await page.fill('#schedule-list', value);
  else if (value) await page.fill('#schedule-number', value);
  await page.fill('#context', String(stack.context));
  await page.locator('.sizes').evaluate((details) => {
    details.open = true;
  });
  await page.fill('#width', String(stack.width));
  await page.fill('#feed-forward', String(stack.feed_forward));
  await page.fill('#recipe', stack.layers);
  const command =
    `hsm_lm info --layers ${stack.layers} --schedule ${stack.schedule} --width ${stack.width} ` +
    `--feed-forward ${stack.feed_forward} --context ${stack.context}`;
  await until(page, (expected) => document.querySelector('#command').textContent === expected, command);
  await ready(page);
}

const digits = (text) => Number(text.replaceAll(',', ''));

async function checkShown(page, info) {
  assert.equal(digits(await textOf(page, '#fact-parameters')), info.parameters);
  assert.equal(await textOf(page, '#fact-coverage'), info.coverage_text);
  assert.equal(await textOf(page, '#fact-holes'), info.holes_text);
  const reach = (await textOf(page, '#fact-reach')).match(/([\d,]+) tokens?,/)[1];
  assert.equal(digits(reach), info.reach);
  const rows = await page.locator('#layers tbody tr').allInnerTexts();
  const cells = rows.reverse().map((row) => row.split('\t'));
  assert.deepEqual(
    cells.map(([, mixer]) => mixer),
    info.stack.map(({mixer}) => mixer.replaceAll(/:[a-z]+=0/g, '')),
  );
  assert.deepEqual(
    cells.map((row) => digits(row[3])),
    info.stack.map(({parameters}) => parameters),
  );
  assert.deepEqual(
    cells.map((row) => (row[2] === 'all tokens' ? [] : row[2].split(', ').map(digits))),
    info.stack.map(({shifts}) => shifts),
  );
  assert.deepEqual(await page.locator('#warnings li').allInnerTexts(), info.warnings);
  assert.equal(
    await page.locator('#chips [aria-pressed=true]').count(),
    info.stack.filter(({mixer}) => mixer.startsWith('attention')).length,
  );
}

test('twenty stacks have the figures of hsm_lm info --json', async () => {
  await withPage('explorer', async (page) => {
    await ready(page);
    for (const stack of stacks) {
      const said = tool('info', '--json', ...options(stack));
      assert.equal(said.status, 0, said.told);
      const expected = JSON.parse(said.out);
      const info = await page.evaluate(async (request) => {
        const {call} = await import('./js/engine.js');
        return (await call({call: 'explore', ...request})).info;
      }, stack);
      assert.deepEqual(info, expected, `${stack.layers}, ${stack.schedule}`);
      await choose(page, stack);
      await checkShown(page, expected);
    }
    assert.equal(stacks.length, 20);
  });
});

test('what the tool refuses, the page refuses in the same words', async () => {
  await withPage('explorer', async (page) => {
    await ready(page);
    for (const [recipe, sentence] of [
      ['5*abc', /expected one of ab, channel/],
      ['ab,,ab', /expected the name of a mixer/],
      ['2*ab:heads=7', /divisor/],
    ]) {
      const {status, refused} = tool('info', '--layers', recipe, '--width', '128');
      assert.equal(status, 2);
      assert.match(refused, sentence);
      await page.fill('#recipe', recipe);
      await until(page, (text) => document.querySelector('#explorer-problem').textContent === text, refused);
    }
    await page.fill('#recipe', '3*ab');
    for (const [value, got] of [
      ['1.5', '1.5'],
      ['', '0'],
    ]) {
      await page.fill('#context', value);
      await until(
        page,
        (text) => {
          const told = document.querySelector('#explorer-problem').textContent;
          return told.startsWith('context must be ') && told.endsWith(`, got ${text}`);
        },
        got,
      );
    }
    await page.fill('#context', '8');
    await until(page, () => document.querySelector('#explorer-problem').hidden);
  });
});

test('controls make the recipe, by mouse and by keyboard', async () => {
  await withPage('explorer', async (page) => {
    await ready(page);
    await page.getByRole('button', {name: 'layer 2 is attention'}).click();
    assert.equal(await page.inputValue('#recipe'), '2*ab,attention,2*ab');
    await page.keyboard.press('Enter'); // the focus stays on the layer
    assert.equal(await page.inputValue('#recipe'), '5*ab');
    await page.locator('#layer-count').focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(await page.inputValue('#recipe'), '6*ab');
    await page.getByRole('button', {name: 'Powers of 3'}).click();
    await ready(page);
    await page.locator('figure.picture').focus();
    await page.locator('figure.picture').evaluate((figure) => {
      const key = () => new KeyboardEvent('keydown', {key: 'ArrowLeft', bubbles: true});
      for (let i = 0; i < 3; ++i) figure.dispatchEvent(key()); // faster than it answers
    });
    await until(page, () => document.querySelector('#offset').textContent === '2 tokens back: no path of shifts, a hole.');
    await page.keyboard.press('ArrowLeft');
    await until(page, () => document.querySelector('#offset').textContent === '3 tokens back: 1 path.');
    await page.keyboard.press('Escape');
    await until(page, () => document.querySelector('#offset').textContent.startsWith('Choose an offset'));
    await page.locator('#picture').click({position: {x: 800, y: 60}});
    await until(page, () => /back: /.test(document.querySelector('#offset').textContent));
    await page.locator('#tab-explorer').focus();
    await page.keyboard.press('ArrowRight');
    assert.equal(new URL(page.url()).hash, '#writer');
    assert.equal(await page.locator('#writer').isVisible(), true);
    assert.equal(await page.locator('#explorer').isVisible(), false);
  });
});

test('what is typed stays when another control than those of the layers changes', async () => {
  await withPage('explorer', async (page) => {
    await ready(page);
    await page.locator('.sizes').evaluate((details) => {
      details.open = true;
    });
    for (const change of [
      () => page.fill('#context', '16'),
      () => page.fill('#width', '64'),
      () => page.fill('#feed-forward', '96'),
      () => page.setChecked('#reversed', true),
      () => page.setChecked('#rotated', true),
      () => page.selectOption('#schedule', 'cyclic'),
      () => page.fill('#schedule-number', '2'),
      () => page.selectOption('#schedule', 'list'),
      () => page.fill('#schedule-list', '1,2'),
    ]) {
      await page.fill('#recipe', 'ab,ga'); // is about to be ab,gated
      await until(page, () => !document.querySelector('#explorer-problem').hidden);
      await change();
      assert.equal(await page.inputValue('#recipe'), 'ab,ga');
    }
    await page.setChecked('#rotated', false);
    await page.fill('#recipe', 'ab,gated');
    const command = 'hsm_lm info --layers ab,gated --schedule reversed:list=1,2 --width 64 --feed-forward 96 --context 16';
    await until(page, (expected) => document.querySelector('#command').textContent === expected, command);
    await page.fill('#context', '8');
    assert.equal(await page.inputValue('#recipe'), 'ab,gated');
    await page.getByRole('button', {name: 'layer 1 is attention'}).click();
    assert.equal(await page.inputValue('#recipe'), 'ab:heads=4,attention'); // the one of the other control
  });
});

test('layers are those of the recipe that is shown, however late the answers come', async () => {
  await withPage(
    'explorer',
    async (page) => {
      const checkLayers = async (recipe, attention) => {
        await until(page, (text) => document.querySelector('#command').textContent.includes(`--layers ${text} `), recipe);
        await ready(page);
        assert.equal(await page.inputValue('#recipe'), recipe);
        const pressed = await page
          .locator('#chips button')
          .evaluateAll((chips) => chips.map((chip) => chip.getAttribute('aria-pressed') === 'true'));
        assert.deepEqual(pressed, attention);
        assert.equal(Number(await page.inputValue('#layer-count')), attention.length);
        assert.equal(await page.locator('#layers tbody tr').count(), attention.length);
      };
      await ready(page);
      await hold(page);
      await page.fill('#recipe', '2*ab,attention');
      await page.getByRole('button', {name: 'Fibonacci'}).click(); // before it is answered
      await release(page);
      await checkLayers('6*gated-pair', Array(6).fill(false));
      await hold(page);
      await page.fill('#recipe', '2*ab,attention');
      await page.selectOption('#schedule', 'dyadic');
      await page.fill('#context', '16');
      await release(page);
      await checkLayers('2*ab,attention', [false, false, true]);
    },
    withHold,
  );
});
