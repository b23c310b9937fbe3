// SPDX-License-Identifier: MIT
//
// Names that common headers define as macros, defined as what no code survives: .ci/platforms includes every
// header of ours behind this page.
//
// Not covered: F of Arduino and other single capitals but I, which are also everybody's template parameters;
// `columns` and `lines` of term.h; `check` of old macOS.
#pragma once

// The standard library, Eigen and what else our headers include come first: their names are not our business.
#include <Eigen/Dense>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#if __has_include(<pthread.h>)
#include <pthread.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numbers>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#endif

#define HSM_POISON )(

// Qt without QT_NO_KEYWORDS
#define slots HSM_POISON
#define signals HSM_POISON
#define emit HSM_POISON
#define foreach HSM_POISON
#define forever HSM_POISON
// windows.h and what it includes
#define small HSM_POISON
#define near HSM_POISON
#define far HSM_POISON
#define hyper HSM_POISON
#define pascal HSM_POISON
#define cdecl HSM_POISON
#define interface HSM_POISON
#define IN HSM_POISON
#define OUT HSM_POISON
#define OPTIONAL HSM_POISON
#define ERROR HSM_POISON
#define NO_ERROR HSM_POISON
#define IGNORE HSM_POISON
#define INFINITE HSM_POISON
#define DELETE HSM_POISON
#define DIFFERENCE HSM_POISON
#define RELATIVE HSM_POISON
#define ABSOLUTE HSM_POISON
#define TRANSPARENT HSM_POISON
#define OPAQUE HSM_POISON
#define CONST HSM_POISON
#define VOID HSM_POISON
#define TEXT(x) HSM_POISON
#define STRICT HSM_POISON
#define THIS HSM_POISON
#define Yield() HSM_POISON
#define CreateFile HSM_POISON
#define DeleteFile HSM_POISON
#define GetMessage HSM_POISON
#define GetObject HSM_POISON
#define SendMessage HSM_POISON
#define LoadLibrary HSM_POISON
// Windows, glib, sys/param.h, Arduino
#define min(a, b) HSM_POISON
#define max(a, b) HSM_POISON
#define MIN(a, b) HSM_POISON
#define MAX(a, b) HSM_POISON
#define CLAMP(x, a, b) HSM_POISON
#define ABS(x) HSM_POISON
#define TRUE HSM_POISON
#define FALSE HSM_POISON
#define G_STMT_START HSM_POISON
#define roundup(x, y) HSM_POISON
#define powerof2(x) HSM_POISON
#define howmany(x, y) HSM_POISON
// Arduino.h
#define HIGH HSM_POISON
#define LOW HSM_POISON
#define INPUT HSM_POISON
#define OUTPUT HSM_POISON
#define CHANGE HSM_POISON
#define DEFAULT HSM_POISON
#define PI HSM_POISON
#define DEG HSM_POISON
#define B0 HSM_POISON
#define B1 HSM_POISON
#define B10 HSM_POISON
#define bit(b) HSM_POISON
#define sq(x) HSM_POISON
#define constrain(x, a, b) HSM_POISON
#define radians(x) HSM_POISON
#define degrees(x) HSM_POISON
#define interrupts() HSM_POISON
#define lowByte(x) HSM_POISON
#define highByte(x) HSM_POISON
#define round(x) HSM_POISON
#define abs(x) HSM_POISON
// X11
#define None HSM_POISON
#define Bool HSM_POISON
#define Status HSM_POISON
#define Success HSM_POISON
#define True HSM_POISON
#define False HSM_POISON
#define Always HSM_POISON
#define Above HSM_POISON
#define Below HSM_POISON
#define Unsorted HSM_POISON
#define Complex HSM_POISON
#define Convex HSM_POISON
#define KeyPress HSM_POISON
#define CursorShape HSM_POISON
#define FocusIn HSM_POISON
#define FocusOut HSM_POISON
#define Expose HSM_POISON
#define CurrentTime HSM_POISON
// complex.h, sys/sysmacros.h, ctype.h of newlib, math.h, term.h and curses.h
#define I HSM_POISON
#define complex HSM_POISON
#define major(x) HSM_POISON
#define minor(x) HSM_POISON
#define makedev(x, y) HSM_POISON
#define _A HSM_POISON
#define _B HSM_POISON
#define _C HSM_POISON
#define _L HSM_POISON
#define _N HSM_POISON
#define _P HSM_POISON
#define _S HSM_POISON
#define _U HSM_POISON
#define _X HSM_POISON
#define DOMAIN HSM_POISON
#define OVERFLOW HSM_POISON
#define UNDERFLOW HSM_POISON
#define SING HSM_POISON
#define timeout(delay) HSM_POISON
#define refresh() HSM_POISON
#define echo() HSM_POISON
#define getch() HSM_POISON
// Boost, Catch, doctest, GoogleTest without their prefixes; Perl, Python, Ruby, Objective-C
#define REQUIRE(x) HSM_POISON
#define CHECK(x) HSM_POISON
#define FAIL(x) HSM_POISON
#define SUBCASE(x) HSM_POISON
#define SECTION(x) HSM_POISON
#define SUCCEED(x) HSM_POISON
#define LOG(x) HSM_POISON
#define VLOG(x) HSM_POISON
#define DISALLOW_COPY HSM_POISON
#define verify(x) HSM_POISON
#define require(x, y) HSM_POISON
#define nil HSM_POISON
#define Nil HSM_POISON
#define YES HSM_POISON
#define NO HSM_POISON
#define unix HSM_POISON
#define linux HSM_POISON
