// SPDX-License-Identifier: MIT
//
// The browser, pages in it, and the tool that they are compared with. What a page prints, what it fails to fetch and what
// it asks of others fails the test.
import assert from 'node:assert/strict';
import {spawnSync} from 'node:child_process';
import {createRequire} from 'node:module';
import path from 'node:path';

export const [address, work] = process.argv.slice(2);
export const model = path.join(work, 'story.safetensors');
const {chromium} = createRequire(path.resolve(work, 'node') + '/')('playwright-core');

export const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});

/** Runs f(page, requests) on a fresh page at #part, after before(page); a fault that is `expected` is none. */
export async function withPage(
  part,
  f,
  {width = 1280, height = 900, colorScheme = 'light', before = () => {}, expected = /^$/} = {},
) {
  const page = await browser.newPage({viewport: {width, height}, colorScheme});
  const faults = [],
    requests = [];
  page.on('console', (message) => faults.push(`printed: ${message.text()}`));
  page.on('pageerror', (error) => faults.push(`threw: ${error.message}`));
  page.on('requestfailed', (request) => faults.push(`did not get ${request.url()}`));
  page.on('request', (request) => requests.push(request));
  try {
    await before(page);
    await page.goto(`${address}#${part}`);
    await f(page, requests);
  } finally {
    await page.close();
  }
  assert.deepEqual(
    faults.filter((fault) => !expected.test(fault)),
    [],
  );
  assert.deepEqual(
    requests.map((request) => request.url()).filter((url) => !url.startsWith(address)),
    [],
  );
}

/** For withPage: a page in which hold() keeps what is asked of the library, and release() lets it go. */
export const withHold = {
  before: (page) =>
    page.addInitScript(() => {
      let kept = null;
      window.Worker = class extends Worker {
        postMessage(...message) {
          if (kept) kept.push(() => super.postMessage(...message));
          else super.postMessage(...message);
        }
      };
      window.hold = () => {
        kept = [];
      };
      window.release = () => {
        const messages = kept;
        kept = null;
        for (const send of messages) send();
      };
    }),
};

export const hold = (page) => page.evaluate(() => window.hold());
export const release = (page) => page.evaluate(() => window.release());

/** What the tool prints, or its sentence where it refuses. */
export function tool(...options) {
  const {status, stdout, stderr} = spawnSync('build/examples/examples/hsm_lm', options, {encoding: 'utf8', maxBuffer: 1 << 28});
  return {
    status,
    out: stdout,
    told: stderr,
    refused: stderr
      .trim()
      .split('\n')
      .at(-1)
      .replace(/^hsm_lm: /, ''),
  };
}

/** The text of an element. */
export const textOf = (page, selector) => page.locator(selector).innerText();

/** Waits until f(argument) holds in the page. */
export const until = (page, f, argument) => page.waitForFunction(f, argument, {timeout: 120000});
