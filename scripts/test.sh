#!/usr/bin/env bash
# Lint, types and tests. Arguments go to pytest, for example: bash scripts/test.sh -m slow
set -euo pipefail
. "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
clang-format --dry-run -Werror plugins/*.cpp plugins/*/*.{h,cu,cpp} tests/native/*.cpp tests/native/*/*
mypy &  # beside the tests, most of which take one core
types=$!
# One thread of the mathematics libraries in each worker: more of them wait for each other. One worker more than there
# are cores, because many tests wait for processes; not for slow ones, which fill cores and memory.
export OMP_NUM_THREADS=1
workers=$(getconf _NPROCESSORS_ONLN)
workers=$((workers < 8 ? workers : 8))
case " $* " in *slow*) ;; *) workers=$((workers + 1)) ;; esac
# Files stay whole, because their tests share what the first one made; in their own order, because those of few but dear
# tests, which would come last, leave one worker idle.
python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@" && status=0 || status=$?
wait $types
exit $status
