// SPDX-License-Identifier: MIT
//
// The text of one branch: a piece for each token, and a mark between two of them.

export class StoryText {
  #place;
  #pieces = [];
  #decoder;
  #mark = 0;
  #marked = () => {};

  constructor(place) {
    this.#place = place;
    place.addEventListener('click', (event) => this.#click(event));
  }

  /** f(tokens before the mark, tokens) is told of each new mark. */
  onMark(f) {
    this.#marked = f;
  }

  get length() {
    return this.#pieces.length;
  }
  get mark() {
    return this.#mark;
  }

  /** Shows tokens [bytes], of which the first `given` were not written here; the mark is behind them all. */
  show(ids, given) {
    this.#decoder = new TextDecoder();
    this.#pieces = [];
    this.#place.replaceChildren();
    this.append(ids.slice(0, given), 'given');
    this.append(ids.slice(given));
  }

  /** Adds tokens; the mark stays behind the last one if it was there. */
  append(ids, kind = '') {
    const follows = this.#mark >= this.#pieces.length || this.#pieces.length === 0;
    const fresh = ids.map((id) => {
      const piece = document.createElement('span');
      piece.className = kind;
      piece.textContent = this.#decoder.decode(Uint8Array.of(id), {stream: true});
      return piece;
    });
    this.#pieces.push(...fresh);
    this.#place.append(...fresh);
    if (!follows) return;
    this.setMark(this.#pieces.length);
    this.#place.scrollTop = this.#place.scrollHeight;
  }

  /** Puts the mark behind the first `count` tokens, 1 at least. */
  setMark(count) {
    this.#pieces[this.#mark - 1]?.classList.remove('mark');
    this.#mark = Math.max(1, Math.min(this.#pieces.length, count));
    const piece = this.#pieces[this.#mark - 1];
    piece?.classList.add('mark');
    this.#marked(this.#mark, this.#pieces.length);
  }

  /** Moves the mark by an arrow key; whether the key was one. */
  key(event) {
    const next = {
      ArrowLeft: this.#mark - 1,
      ArrowRight: this.#mark + 1,
      Home: 1,
      End: this.#pieces.length,
      ArrowUp: this.#line(-1),
      ArrowDown: this.#line(1),
    }[event.key];
    if (next === undefined) return false;
    this.setMark(next);
    this.#pieces[this.#mark - 1]?.scrollIntoView({block: 'nearest'});
    return true;
  }

  // The mark a line higher or lower: about the same place from the left.
  #line(step) {
    const here = this.#pieces[this.#mark - 1]?.getBoundingClientRect();
    if (!here) return this.#mark;
    let best = this.#mark,
      distance = Infinity;
    for (let i = this.#mark - 1 + step; i >= 0 && i < this.#pieces.length; i += step) {
      const box = this.#pieces[i].getBoundingClientRect();
      const lines = Math.abs(box.top - here.top) / Math.max(1, here.height);
      if (lines > 2.5) break;
      if (lines > 0.5 && Math.abs(box.right - here.right) < distance) {
        distance = Math.abs(box.right - here.right);
        best = i + 1;
      }
    }
    return best;
  }

  #click(event) {
    let i = this.#pieces.indexOf(event.target);
    if (i < 0) i = this.#before(event.clientX, event.clientY);
    if (i < 0) return;
    const box = this.#pieces[i].getBoundingClientRect();
    this.setMark(event.clientX > box.left + box.width / 2 ? i + 1 : i);
  }

  // The piece to the left of a place between the lines, behind the end of one, or below them all.
  #before(x, y) {
    return this.#pieces.findLastIndex((piece) => {
      const box = piece.getBoundingClientRect();
      return box.top <= y && box.left <= x;
    });
  }
}
