#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Pictures and tables from the results of the benchmarks:   bash bench/figures.sh RESULTS.json
# Writes bench/figures/*.svg (gnuplot), table.md and targets.md there, and puts table.md between the marks in README.md.
# What is said of a layer beside attention comes from rows that were measured in turns with it (.../paired), never from two
# rows; where such a row's spread stayed above 10 % it is marked, with ~ in the table, with a ring in a picture.
set -euo pipefail
export LC_ALL=C.UTF-8  # numbers with a point
unset CDPATH           # a cd that prints nothing
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ $# != 1 || ! -f "$1" ]]; then
  echo "figures: expected a file that hsm_bench --json wrote, got '${1-}'" >&2
  exit 2
fi
folder=$root/bench/figures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$folder"

# level layer mode size milliseconds figure threads kind target steady yardstick, a line per row: hsm_bench writes one value
# per line, in the order of their names.
awk -F'"' '
  /^  "[a-z+]+": / { machine[$2] = $4 }
  /"figure":/ { figure = $3; gsub(/[: ,]/, "", figure) }
  /"name":/ { name = $4 }
  /"steady":/ { steady = $3 ~ /true/ }
  /"seconds":/ { seconds = $3; gsub(/[: ,]/, "", seconds) }
  /"target":/ { target = $3; gsub(/[: ,]/, "", target) }
  /"error":/ { wrong = $4 != ""; if (wrong) print "a wrong result, \"" $4 "\"" > "'"$work"'/wrong" }
  /"yardstick":/ {
    if (wrong || !split(name, part, "/")) next
    size = part[4]; threads = part[5]; sub(/threads=/, "", threads)
    if (part[1] == "training") { size = "-"; threads = part[3]; sub(/threads=/, "", threads) }
    if (part[1] == "decode") { size = "-"; threads = part[4]; sub(/threads=/, "", threads) }
    print part[1], part[2], part[1] == "training" ? "step" : part[3], size == "" ? "-" : size, seconds * 1e3, figure, \
      threads == "" ? 1 : threads, part[6] == "" ? "-" : part[6], target, steady, $4
  }
  END { for (key in machine) print key " " machine[key] > "'"$work"'/machine" }
' "$1" >"$work/rows"

if [[ -s $work/wrong ]]; then
  echo "figures: $1 must hold results that are right, got $(head -1 "$work/wrong")" >&2
  exit 2
fi
for case in mixer/attention/T=1024 mixer/attention/T=16384 mixer/ab/T=16384 block/ab/T=16384; do
  if ! awk -v of="$case" '$3 == "forward" && $1 "/" $2 "/" $4 == of { found = 1 } END { exit !found }' "$work/rows"; then
    echo "figures: $1 must hold all cases of a run, got none of ${case%/*}/forward/${case##*/}" >&2
    exit 2
  fi
done

machine() { sed -n "s/^$1 //p" "$work/machine"; }
title="C = 512, $(machine processor), $(awk '$7 > most { most = $7 } END { print most }' "$work/rows") threads, float, products by $(machine products)"
threads=$(awk '$7 > most { most = $7 } END { print most }' "$work/rows")

# times LEVEL LAYER MODE: T, microseconds per token, and whether that is steady
times() {
  awk -v level="$1" -v layer="$2" -v mode="$3" -v threads="$threads" '
    $1 == level && $2 == layer && $3 == mode && $4 ~ /^T=/ && $7 == threads && $8 == "-" {
      T = substr($4, 3); print T, $5 * 1e3 / T, $10 }' "$work/rows" | sort -n
}
# speedups LEVEL LAYER MODE: T, how often attention's speed the layer has, and whether that is steady
speedups() {
  awk -v level="$1" -v layer="$2" -v mode="$3" -v threads="$threads" '
    $1 == level && $2 == layer && $3 == mode && $4 ~ /^T=/ && $7 == threads && $8 == "paired" {
      print substr($4, 3), $6, $10 }' "$work/rows" | sort -n
}
# Those that were measured beside attention, in the order of the rows, and attention.
layers="$(awk '$1 == "mixer" && $8 == "paired" && !seen[$2]++ { print $2 }' "$work/rows" | tr '\n' ' ')attention"
for level in mixer block; do
  for mode in forward forward+backward; do
    for layer in $layers; do
      times $level "$layer" $mode >"$work/$level.$mode.$layer"
      speedups $level "$layer" $mode >"$work/$level.$mode.$layer.speedup"
      awk '!$3' "$work/$level.$mode.$layer.speedup" >"$work/$level.$mode.$layer.speedup.unsteady"
    done
  done
done

# plot FILE TITLE YLABEL SUFFIX LEVEL MODE
plot() {
  local lines="" number=0 layer style ring=""
  for layer in $layers; do
    number=$((number + 1))
    [[ -s $work/$5.$6.$layer$4 ]] || continue
    style="lw 2 lc $number"
    if [[ $layer == attention ]]; then style='lw 4 lc rgb "black"'; fi
    lines+="${lines:+, }\"$work/$5.$6.$layer$4\" using 1:2 with linespoints pt 7 ps 0.4 $style title \"$layer\""
    if [[ -s $work/$5.$6.$layer$4.unsteady ]]; then
      lines+=", \"$work/$5.$6.$layer$4.unsteady\" using 1:2 with points pt 6 ps 1.2 lc $number notitle"
      ring="; ring: spread above 10 %"
    fi
  done
  [[ -n $lines ]] || return 0
  gnuplot <<PLOT
set terminal svg size 760,460 font "sans,13" background "white"
set output "$folder/$1"
set title "$2\\n{/*0.75 $title$ring}"
set logscale xy 2
set format x "%.0f"
set format y "%g"
set xlabel "T, tokens"
set ylabel "$3"
set grid lc rgb "#dddddd"
set key outside right
plot $lines
PLOT
}
plot time_per_token.svg "Time per token, forward, the mixer alone" "microseconds per token" "" mixer forward
plot time_per_token_training.svg "Time per token, forward and backward, the mixer alone" "microseconds per token" "" mixer forward+backward
plot speedup_mixer.svg "Speed-up over attention, forward, the mixer alone" "times attention's speed" .speedup mixer forward
plot speedup_block.svg "Speed-up over attention, forward, blocks of equal parameters" "times attention's speed" .speedup block forward

# Where a layer begins to be faster than attention for good: the crossing of the two lines between two T.
crossing() {
  awk '{ T[NR] = $1; s[NR] = $2; steady[NR] = $3 }
    END {
      if (!NR) { printf "-"; exit }
      for (i = NR; i >= 1 && s[i] > 1; --i) {}
      if (i == NR) printf "> %d", T[NR]; else if (i == 0) printf "< %d", T[1]
      else printf "%s%d", steady[i] && steady[i + 1] ? "" : "~", exp(log(T[i]) + (0 - log(s[i])) / (log(s[i + 1]) - log(s[i])) * (log(T[i + 1]) - log(T[i])))
    }' "$work/$1.$2.$3.speedup"
}
at() { awk -v T="$4" '$1 == T { printf "%s%.2f", $3 ? "" : "~", $2; found = 1 } END { if (!found) printf "-" }' "$work/$1.$2.$3"; }
faster() {
  awk -v T="$4" '$1 == T { printf($2 < 20 ? "%s%.2f" : "%s%.0f", $3 ? "" : "~", $2); found = 1 }
    END { if (!found) printf "-" }' "$work/$1.$2.$3.speedup"
}
step() { awk -v layer="$1" -v at="at=$2" '$2 == layer && $3 == "step" && $4 == at { printf "%s%.1f", $10 ? "" : "~", $5 * 1e3; f = 1 } END { if (!f) printf "-" }' "$work/rows"; }
{
  echo "$(machine processor), $(machine cores) cores, $(machine compiler), \`$(machine flags)\`, products by $(machine products), float, C = 512, $threads threads."
  echo "*Speed-up* is attention's time over the layer's, the median of pairs of runs in turns: below 1 the layer is slower. A *block* is"
  echo "mixer and feed-forward network, with as many parameters as attention's block. ~ marks a spread above 10 %. Steps run on one thread."
  echo "*Faster from T*: at this length and every longer one that was measured, interpolated; < the first or > the last of them; -: not measured."
  echo
  echo "| | us per token, T = 1,024 | us per token, T = 16,384 | speed-up, T = 1,024 | speed-up, T = 16,384 | block's speed-up, T = 1,024 | block's speed-up, T = 16,384 | faster from T: mixer | faster from T: training | faster from T: block | us per step after 100 tokens |"
  echo "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
  for layer in $layers; do
    echo -n "| \`$layer\` | $(at mixer forward $layer 1024) | $(at mixer forward $layer 16384) | "
    if [[ $layer == attention ]]; then
      echo -n "1 | 1 | 1 | 1 | | | | "
    else
      echo -n "$(faster mixer forward $layer 1024) | $(faster mixer forward $layer 16384) | "
      echo -n "$(faster block forward $layer 1024) | $(faster block forward $layer 16384) | "
      echo -n "$(crossing mixer forward $layer) | $(crossing mixer forward+backward $layer) | $(crossing block forward $layer) | "
    fi
    echo "$(step $layer 100) |"
  done
} >"$folder/table.md"

# All rows with a target: what was asked, what was measured.
{
  echo "Figures of $(machine processor), $(machine cores) cores, $(machine compiler), \`$(machine flags)\`, products by $(machine products): how often its"
  echo "yardstick's speed a case has, medians of turns."
  echo
  echo "| case | threads | ms | figure | of | target | |"
  echo "|---|---|---|---|---|---|---|"
  awk '$9 > 0 {
    of = ""; for (i = 11; i <= NF; ++i) of = of (i > 11 ? " " : "") $i
    printf "| %s %s %s %s | %d | %.3g | %.2f | %s | %.2f | %s |\n", $1, $2, $3, $4, $7, $5, $6, of, $9, ($6 >= $9 ? "ok" : "below") }' \
    "$work/rows"
} >"$folder/targets.md"

awk -v table="$folder/table.md" '
  /<!-- table of bench\/figures.sh -->/ { print; while ((getline line < table) > 0) print line; skip = 1; next }
  /<!-- end of table -->/ { skip = 0 }
  !skip { print }
' "$root/README.md" >"$work/README.md"
if ! cmp -s "$work/README.md" "$root/README.md"; then cat "$work/README.md" >"$root/README.md"; fi
echo "figures: wrote $(ls "$folder" | wc -l) files in bench/figures and the table in README.md"
