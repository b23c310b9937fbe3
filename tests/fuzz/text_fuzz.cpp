// SPDX-License-Identifier: MIT
#include "fuzz/text_fuzz.hpp"

#include "fuzz/entry.hpp"

HSM_FUZZ_TARGET(fuzz_text)
