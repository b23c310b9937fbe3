# SPDX-License-Identifier: MIT
#
# Doxygen's input filter: the comment at the head of a file, down to #pragma once, becomes the documentation of
# the file, as it stands. The inline namespace of core/abi.hpp is left out: nobody writes it. Keeps the number of
# every line.
                          { sub(/::inline HSM_ABI/, "") }
head == 0 && /^\/\/ SPDX/ { print "/// @file"; head = 1; next }
head == 1 && /^\/\//      { if (lines++) print held; held = lines == 1 ? "/// @verbatim" : "///" substr($0, 3); next }
head == 1                 { if (lines) print held " @endverbatim"; head = 2 }
                          { print }
