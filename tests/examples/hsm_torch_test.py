#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A model that hsm_lm trained is the same in PyTorch (examples/torch/hsm_torch.py), however its weights are stored; what PyTorch
trained is read by hsm_lm; losses agree step by step (bench/paper/twin.py), for every layer that a recipe can name.

  /usr/bin/python3 tests/examples/hsm_torch_test.py HSM_LM      "skipped: ..." where there is no PyTorch"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "torch"))
try:
  import torch
except ImportError:
  print("skipped: PyTorch was not found (Debian: python3-torch)")
  sys.exit(0)
import hsm_torch

TOOL = ""
RECIPES = ["gated:heads=2,2*ab:heads=4,attention:heads=4,hkt:heads=2",
           "channel,matrix,gated-pair,fusion,softmax-local:heads=2:taps=3,ema:ndim=3",
           "attention:heads=2:rotary=100,attention:heads=2:window=5,attention:heads=2:block=4:top=2,"
           "linear-attention:heads=2,linear-attention:heads=2:decay=1"]
TEXT = ("The quick brown fox jumps over the lazy dog. " * 20).encode()


class HsmTorch(unittest.TestCase):

  def setUp(self):
    folder = tempfile.TemporaryDirectory()
    self.addCleanup(folder.cleanup)
    self.folder = pathlib.Path(folder.name)
    (self.folder / "text").write_bytes(TEXT)

  def run_tool(self, *words):
    done = subprocess.run([TOOL, *map(str, words)], capture_output=True, cwd=self.folder, check=False)
    self.assertEqual(done.returncode, 0, done.stderr.decode())
    return done.stdout

  def train(self, recipe, *more):
    self.run_tool("train", "--text", "text", "--valid", "text", "--layers", recipe, "--width", 16, "--context", 24, "--batch", 2,
                  "--steps", 40, "--learning-rate", 0.02, "--threads", 1, "--out", "model", "--schedule", "rotated:cyclic=3", *more)

  def test_refuses_recipes_of_files_from_before_heads_were_stated(self):
    fixtures = pathlib.Path(__file__).resolve().parents[1] / "fixtures"
    with self.assertRaisesRegex(ValueError, "must state every option, got [a-z-]+ without heads"):
      hsm_torch.load(fixtures / "model-without-heads.safetensors")

  def test_reads_halves(self):
    tensors, _ = hsm_torch.decode(hsm_torch.encode({"a": torch.tensor([0x3C00, -0x4000], dtype=torch.int16)}, {}).replace(b"I16", b"F16"))
    self.assertEqual(tensors["a"].tolist(), [1.0, -2.0])
    with self.assertRaisesRegex(ValueError, "got X16"):
      hsm_torch.decode(hsm_torch.encode({"a": torch.zeros(2, dtype=torch.int16)}, {}).replace(b"I16", b"X16"))

  def test_writes_the_text_that_the_tool_writes(self):
    for recipe in RECIPES:
      self.train(recipe)
      for storage in ("float", "bf16", "int8"):
        self.run_tool("convert", "--storage", storage, "--model", "model", "--out", storage)
        expected = self.run_tool("generate", "--model", storage, "--prompt", "The ", "--tokens", 30, "--temperature", 0)
        got = hsm_torch.continued(hsm_torch.load(self.folder / storage), b"The ", 30)
        self.assertEqual(got + b"\n", expected, f"{recipe} as {storage}")
    program = [sys.executable, ROOT / "examples/torch/hsm_torch.py", self.folder / storage]
    said = subprocess.run([*program, "--prompt", "The ", "--tokens", "30"], capture_output=True, check=True).stdout
    self.assertEqual(said, expected)

  def test_has_the_loss_that_the_tool_has_and_is_read_back(self):
    self.train(RECIPES[0], "--positions", "learned")
    model = hsm_torch.load(self.folder / "model")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.tensor(list(TEXT[:50]))
    loss = torch.nn.functional.cross_entropy(model(ids[None, :24])[0], ids[1:25])
    loss.backward()
    optimizer.step()
    hsm_torch.save(self.folder / "trained", model)
    after = hsm_torch.load(self.folder / "trained")
    for (name, value), (other, again) in zip(model.named_parameters(), after.named_parameters()):
      self.assertEqual(name, other)
      self.assertTrue(torch.equal(value, again), name)
    (self.folder / "window").write_bytes(TEXT[:25])
    told = self.run_tool("evaluate", "--model", "trained", "--text", "window").decode()
    own = hsm_torch.loss_of(after, TEXT[:25], 24)
    self.assertNotAlmostEqual(own, loss.item(), places=3)
    self.assertAlmostEqual(float(re.search(r"[0-9]+\.[0-9]+", told)[0]), own, places=3, msg=told)

  def test_learns_as_the_tool_does(self):
    done = subprocess.run([sys.executable, ROOT / "bench/paper/twin.py", "--program", TOOL, "--text", self.folder / "text",
                           "--width", "16", "--context", "24", "--batch", "2", "--steps", "6", "--bound", "1e-5",
                           *[word for recipe in RECIPES for word in ("--layers", recipe)]],
                          capture_output=True, check=False)
    self.assertEqual(done.returncode, 0, done.stderr.decode() + done.stdout.decode())

  def test_refuses_other_files(self):
    (self.folder / "other").write_bytes(hsm_torch.encode({"a": torch.ones(2)}, {"format": "another"}))
    with self.assertRaisesRegex(ValueError, "must be hsm-language-model, got another"):
      hsm_torch.load(self.folder / "other")
    whole = hsm_torch.encode({"a": torch.ones(2)}, {"format": "hsm-language-model"})
    for broken, said in ((b"", "safetensors"), (whole[:7], "safetensors"), (whole[:50], "safetensors"), (TEXT, "safetensors"),
                         (whole[:-1], "8 bytes of tensors, got 7"), (whole + b"x", "8 bytes of tensors, got 9")):
      (self.folder / "other").write_bytes(broken)
      with self.assertRaisesRegex(ValueError, f"other: .*{said}"):
        hsm_torch.load(self.folder / "other")

  def test_says_in_a_sentence_what_it_cannot_run(self):
    self.train(RECIPES[0], "--positions", "learned")
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(self.folder)
    for name, size in (("none", 0), ("one", 1)):
      (self.folder / name).write_bytes(TEXT[:size])
    for words, said in ((("--prompt", ""), "at least 1 byte"), (("--prompt", "a" * 25), "24 positions, got 25"),
                        (("--prompt", "a", "--tokens", "25"), "24 positions, got 25"), (("--prompt", "a", "--tokens", "-3"), "from 1 on"),
                        (("--text", "none"), "at least 2 bytes"), (("--text", "one"), "at least 2 bytes"),
                        (("--text", "text", "--context", "0"), "from 1 on"), (("--text", "text", "--context", "-1"), "from 1 on"),
                        (("--text", "text", "--context", "25"), "24 positions, got 25"), (("--text", "nowhere"), "nowhere")):
      told = io.StringIO()
      with mock.patch.object(sys, "argv", ["hsm_torch.py", "model", *words]), contextlib.redirect_stderr(told), \
           self.assertRaises(SystemExit) as end:
        hsm_torch.main()
      self.assertRegex(told.getvalue() + str(end.exception.code), said, words)


if __name__ == "__main__":
  TOOL = sys.argv.pop(1)
  torch.set_num_threads(1)
  unittest.main()
