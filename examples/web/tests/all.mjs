// SPDX-License-Identifier: MIT
//
// All tests of the page, one after another:   node all.mjs ADDRESS BUILD-FOLDER
import {after} from 'node:test';
import {browser} from './browser.mjs';
import './starting.mjs';
import './explorer.mjs';
import './writer.mjs';
import './weights.mjs';
import './look.mjs';

after(() => browser.close());
