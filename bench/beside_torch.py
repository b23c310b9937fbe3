#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Times whole models of hsm_lm beside the same models in PyTorch, in turns, and checks first that they compute the same:

  /usr/bin/python3 bench/beside_torch.py [--program HSM_LM] [--threads N] [--turns 5] [--out bench/figures/beside_torch.md]

A GPT of 8 layers (width 256, heads 4, feed-forward 1024) and its (a,b) twin of about as many parameters (feed-forward 1536), over
bytes: a step of training (16 x 128 tokens, forward, backward, clipping and AdamW), reading a prompt of 4,096 tokens, and making
tokens one by one behind 1,000. PyTorch runs what its users would write: softmax(Q K^T) V by batched products, a partner s tokens
back as the sequence padded in front, keys and values of the past in one tensor, the fused loops of its AdamW. The figure is the
median of the ratios of turns, above 1 hsm is faster; a row with a ratio further than 10 % from it is marked. Where PyTorch is
not installed (Debian: python3-torch) it says so and ends with 0."""

import argparse
import csv
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
ROOT = pathlib.Path(__file__).resolve().parents[1]


def number(text):
  """A whole number from 1 on, as an option."""
  if not text.isascii() or not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
  return int(text)


parser = argparse.ArgumentParser(description="Times models of hsm_lm beside PyTorch.", allow_abbrev=False)
parser.add_argument("--program", default=str(ROOT / "build/examples/examples/hsm_lm"))
parser.add_argument("--text", type=pathlib.Path, default=ROOT / "README.md", help="bytes to read and to learn from")
parser.add_argument("--threads", type=number, default=len(os.sched_getaffinity(0)), help="of both")
parser.add_argument("--turns", type=number, default=5)
parser.add_argument("--out", help="Markdown file to write the table to")
OPTIONS = parser.parse_args()
if OPTIONS.out and not pathlib.Path(OPTIONS.out).absolute().parent.is_dir():
  parser.error(f"--out must be in a folder that is there, got {OPTIONS.out!r}")
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(OPTIONS.threads)  # read where torch is loaded
sys.path.insert(0, str(ROOT / "examples" / "torch"))
try:
  import torch
  from torch.nn import functional

  import hsm_torch
  from time_layers import processor
except ModuleNotFoundError as missing:
  if missing.name != "torch":
    raise
  print(f"beside_torch.py: {missing}: nothing is timed (Debian: python3-torch)")
  sys.exit(0)
if not os.access(OPTIONS.program, os.X_OK):
  parser.error(f"--program must be hsm_lm, which bash examples/run.sh builds, got {OPTIONS.program!r}")

MODELS = {"8*attention:heads=4": 1024, "8*ab": 1536}  # recipe: width of the feed-forward networks
WIDTH, BATCH, CONTEXT, STEPS, PROMPT, BEFORE, MADE = 256, 16, 128, 6, 4096, 1000, 200


def attention(p, x, shifts, _):
  """Causal attention by batched products."""
  heads, (batch, length, channels) = len(shifts), x.shape
  q, k, v = (hsm_torch.split_heads(u, heads) for u in functional.linear(x, p["project.weight"], p["project.bias"]).chunk(3, dim=2))
  hidden = torch.full((length, length), -math.inf).triu(1)
  mixed = torch.softmax(q @ k.transpose(2, 3) * (channels // heads)**-0.5 + hidden, dim=3) @ v
  return functional.linear(mixed.transpose(1, 2).reshape(batch, length, channels), p["output.weight"], p["output.bias"])


def partner(u, shifts):
  """u[t - s], 0 before the first token; all heads are at one shift here."""
  return functional.pad(u, (0, 0, shifts[0], 0))[:, :u.shape[1]]


hsm_torch.partner = partner
hsm_torch.MIXERS["attention"] = attention


class Stream:
  """A text that grows token by token: of each layer the keys and values, or the inputs, so far."""

  def __init__(self, model, room):
    self.model, self.count = model, 0
    kept = {"attention": 2 * WIDTH, "ab": WIDTH}
    self.past = [torch.zeros(room, kept[name]) for name, _ in model.recipe]

  def mix(self, l, p, x):
    """The mixer of layer l for the next token, x [1,1,C]."""
    name, _ = self.model.recipe[l]
    past, now, shifts = self.past[l], self.count, self.model.shifts(l)
    if name == "ab":
      past[now] = x[0, 0]
      before = past[now - shifts[0]] if now >= shifts[0] else torch.zeros(WIDTH)
      a, b = (hsm_torch.per_channel(p[which], WIDTH) for which in "ab")
      return a * x + b * before
    heads = len(shifts)
    joint = functional.linear(x[0, 0], p["project.weight"], p["project.bias"])
    past[now] = joint[WIDTH:]
    keys, values = (u.view(now + 1, heads, -1).transpose(0, 1) for u in past[:now + 1].split(WIDTH, dim=1))
    scores = keys @ joint[:WIDTH].view(heads, -1, 1) * (WIDTH // heads)**-0.5
    mixed = torch.softmax(scores, dim=1).transpose(1, 2) @ values
    return functional.linear(mixed.reshape(1, 1, WIDTH), p["output.weight"], p["output.bias"])

  def step(self, token):
    """The logits after one token more."""
    whole, self.model.mix = self.model.mix, self.mix
    logits = self.model(torch.tensor([[token]]))
    self.model.mix = whole
    self.count += 1
    return logits[0, 0]


class Pair:
  """A model as a file for hsm_lm, and in PyTorch."""

  def __init__(self, recipe, options, folder):
    self.options, self.file, self.log = options, folder / "model.safetensors", folder / "log.csv"
    self.settings = ["--layers", recipe, "--width", WIDTH, "--feed-forward", MODELS[recipe], "--context", CONTEXT]
    self.hsm_train(1, "--learning-rate", 1e-12, "--weight-decay", 0)
    self.model = hsm_torch.load(self.file)
    self.bytes = options.text.read_bytes()
    if len(self.bytes) < PROMPT:
      sys.exit(f"beside_torch.py: {options.text} must have at least {PROMPT} bytes, got {len(self.bytes)}")
    (folder / "prompt").write_bytes(self.bytes[:PROMPT])
    (folder / "before").write_bytes(self.bytes[:BEFORE])
    self.folder = folder
    self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-12, foreach=True)

  def hsm(self, *words):
    words = [str(word) for word in [self.options.program, *words, "--threads", self.options.threads]]
    own = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(words, capture_output=True, env=own, check=False)
    if done.returncode != 0:
      sys.exit(f"beside_torch.py: {' '.join(words)}: {done.stderr.decode(errors='replace')}")
    return done

  def hsm_train(self, steps, *more):
    """Seconds of each step."""
    self.hsm("train", "--text", self.options.text, "--out", self.file, "--steps", steps, "--batch", BATCH, "--log", self.log,
             "--validation-tokens", 1, *self.settings, *more)
    with open(self.log, encoding="utf-8") as rows:
      ends = [float(row["seconds"]) for row in csv.DictReader(rows)]
    return [b - a for a, b in zip(ends, ends[1:])]

  def hsm_generate(self, prompt, tokens):
    """(bytes, tokens per second of the prompt, of what was made)."""
    done = self.hsm("generate", "--model", self.file, "--prompt-file", self.folder / prompt, "--tokens", tokens, "--temperature", 0,
                    "--stats")
    rates = re.search(rb"prefill \d+ tokens?, (\d+) tokens/s; decode \d+ tokens?, (\d+) tokens/s", done.stderr)
    return done.stdout, float(rates[1]), float(rates[2])

  def training(self):
    """Seconds of a step of each."""
    text = torch.frombuffer(bytearray(self.bytes), dtype=torch.uint8).long()
    own = statistics.median(self.hsm_train(STEPS, "--learning-rate", 1e-12))
    times = []
    for _ in range(STEPS):
      start = time.perf_counter()
      first = torch.randint(len(text) - CONTEXT - 1, (BATCH,))
      rows = torch.stack([text[i:i + CONTEXT + 1] for i in first])
      self.optimizer.zero_grad(set_to_none=True)
      functional.cross_entropy(self.model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
      torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
      self.optimizer.step()
      times.append(time.perf_counter() - start)
    return own, statistics.median(times[1:])

  def reading(self):
    """Seconds for PROMPT tokens."""
    _, rate, _ = self.hsm_generate("prompt", 2)
    with torch.no_grad():
      ids = torch.tensor([list(self.bytes[:PROMPT])])
      start = time.perf_counter()
      self.model(ids)
      return PROMPT / rate, time.perf_counter() - start

  def making(self):
    """Seconds for a token."""
    made, _, rate = self.hsm_generate("before", MADE)
    with torch.no_grad():
      stream = Stream(self.model, BEFORE + MADE)
      for token in self.bytes[:BEFORE]:
        logits = stream.step(token)
      found, start = [], time.perf_counter()
      for _ in range(MADE):
        found.append(int(logits.argmax()))
        logits = stream.step(found[-1])
      seconds = (time.perf_counter() - start) / MADE
    same = sum(a == b for a, b in zip(made[BEFORE:BEFORE + MADE], bytes(found)))
    if same < MADE // 2:  # equal up to a tie
      sys.exit(f"beside_torch.py: of {MADE} tokens {same} are the same")
    return 1 / rate, seconds

  def check(self):
    """The losses of one text; and the logits that PyTorch has token by token beside those of the whole."""
    part = self.folder / "part"
    part.write_bytes(self.bytes[:CONTEXT + 1])
    told = self.hsm("evaluate", "--model", self.file, "--text", part).stdout.decode()
    ours = float(re.search(r"([\d.]+) nats per byte", told)[1])
    theirs = hsm_torch.loss_of(self.model, self.bytes[:CONTEXT + 1], CONTEXT)
    if not abs(ours - theirs) <= 1e-3:
      sys.exit(f"beside_torch.py: losses differ: {ours} and {theirs}")
    with torch.no_grad():
      stream = Stream(self.model, CONTEXT)
      streamed = torch.stack([stream.step(token) for token in self.bytes[:CONTEXT]])
      whole = self.model(torch.tensor([list(self.bytes[:CONTEXT])]))[0]
    off = float((streamed - whole).abs().max())
    if not off <= 1e-4 * float(whole.abs().max()):
      sys.exit(f"beside_torch.py: logits of PyTorch token by token differ from those of the whole by {off}")


def main():
  options = OPTIONS
  torch.set_num_threads(options.threads)
  torch.manual_seed(1)
  lines = [f"{processor()}, {options.threads} threads, PyTorch {torch.__version__}, float, {options.turns} turns", "",
           "| model | | ms, hsm | ms, PyTorch | PyTorch / hsm | of turns |", "|---|---|---:|---:|---:|---|"]
  print("\n".join(lines), flush=True)
  for recipe in MODELS:
    with tempfile.TemporaryDirectory() as folder:
      pair = Pair(recipe, options, pathlib.Path(folder))
      pair.check()
      parameters = sum(p.numel() for p in pair.model.parameters())
      cases = {f"training, {BATCH} x {CONTEXT}": pair.training, f"reading {PROMPT:,}": pair.reading,
               f"a token behind {BEFORE:,}": pair.making}
      for what, measure in cases.items():
        measure()  # warm
        times = [measure() for _ in range(options.turns)]
        ratios = sorted(b / a for a, b in times)
        own, other = (statistics.median(column) * 1e3 for column in zip(*times))
        middle = statistics.median(ratios)
        unsteady = ", unsteady" if max(ratios[-1] - middle, middle - ratios[0]) > 0.1 * middle else ""
        lines.append(f"| `{recipe}`, {parameters / 1e6:.2f} M | {what} | {own:.3g} | {other:.3g} | {middle:.2f} | "
                     f"{ratios[0]:.2f} to {ratios[-1]:.2f}{unsteady} |")
        print(lines[-1], flush=True)
  if options.out:
    pathlib.Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
  main()
