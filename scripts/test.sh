#!/usr/bin/env bash
# Lint, types and tests. Arguments go to pytest, for example: bash scripts/test.sh -m slow
set -euo pipefail
. "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
mypy
clang-format --dry-run -Werror plugins/*.cpp plugins/*/*.{h,cu,cpp} tests/native/*.cpp tests/native/*/*
# One thread of the mathematics libraries in each of two workers: more of them wait for each other.
export OMP_NUM_THREADS=1
# Files stay whole, because their tests share what the first one made; in their own order, because those of few but dear
# tests, which would come last, leave one worker idle.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
