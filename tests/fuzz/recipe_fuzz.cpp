// SPDX-License-Identifier: MIT
#include "fuzz/recipe_fuzz.hpp"

#include "fuzz/entry.hpp"

HSM_FUZZ_TARGET(fuzz_recipe)
