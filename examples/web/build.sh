#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Builds the page into build/web/site:   bash examples/web/build.sh
# The library as WebAssembly, a small model trained on the built-in stories (about a minute, one thread), and the files
# of examples/web/site. What is newer than its sources stays.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ $# -gt 0 ]]; then
  echo "build.sh: takes no arguments, got '$1'" >&2
  exit 2
fi
work=build/web

bash .ci/setup web
mkdir -p "$work/site" "$work/include"

# Whether a file is there, and newer than all of the others and what is in them.
fresh() {
  local file=$1
  shift
  [[ -f $file && -z $(find "$@" -type f -newer "$file" -print -quit) ]]
}

build_library() {
  local sources=(examples/web/*.?pp examples/web/build.sh examples/hsm_lm/{model,stack_*,summary}.hpp
    examples/support/{coverage_text,stack_picture,svg,text}.hpp include)
  if fresh "$work/site/hsm.js" "${sources[@]}"; then return; fi
  echo "web: compiling the library to WebAssembly, a minute or two"
  # The include folders of this machine hold headers for its own processor: only what is needed is shown.
  ln -sfn /usr/include/eigen3 /usr/include/nlohmann "$work/include/"
  # Eigen 3.4 has no vectors of WebAssembly's own, but Emscripten makes SSE's of them, and products are much faster so. For
  # that Eigen wants a header of MMX, of which it uses nothing, and its empty asm statements, which steer g++, must go.
  : >"$work/include/mmintrin.h"
  # A node that is not Debian's does not look where Debian keeps the modules of the optimizer.
  NODE_PATH=/usr/share/nodejs em++ -std=c++20 -O3 -DNDEBUG -msimd128 -msse4.1 -fgnuc-version=12.2.0 '-D__asm__(...)=' \
    -fwasm-exceptions -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror \
    -I . -I include -isystem "$work/include/eigen3" -isystem "$work/include" examples/web/page.cpp -o "$work/site/hsm.js" \
    -s MODULARIZE=1 -s EXPORT_ES6=1 -s ENVIRONMENT=worker -s ALLOW_MEMORY_GROWTH=1 -s FILESYSTEM=0 \
    -s EXPORTED_FUNCTIONS=_malloc,_free,_hsm_call,_hsm_load \
    -s EXPORTED_RUNTIME_METHODS=UTF8ToString,stringToUTF8,lengthBytesUTF8
}

train_model() {
  if fresh "$work/story.safetensors" examples/web/build.sh examples/web/stories.cpp examples/support/stories.hpp; then return; fi
  echo "web: training the model, about a minute"
  g++ -std=c++20 -O1 -I . -I include -isystem /usr/include/eigen3 examples/web/stories.cpp -o "$work/stories"
  "$work/stories" 2000000 >"$work/stories.txt"
  # Under another name until it is trained: what is interrupted saves its model too.
  build/examples/examples/hsm_lm train --text "$work/stories.txt" --out "$work/unfinished.safetensors" \
    --layers ab:heads=8,gated,gated-pair,attention:heads=4:rotary=10000:window=128,softmax-local:heads=4:taps=3,ab:heads=8 \
    --width 64 --feed-forward 192 --context 256 --batch 4 --learning-rate 6e-3 --warmup 0.04 --steps 1500 --seed 1 --threads 1
  mv "$work/unfinished.safetensors" "$work/story.safetensors"
}

echo "web: compiling the tool that trains the model, a minute or two where it is not yet there"
bash .ci/build examples -- --target hsm_lm
build_library
train_model
cp -R examples/web/site/. "$work/story.safetensors" "$work/site/"
echo "web: $work/site, $(du -sb "$work/site" | cut -f 1) bytes"
