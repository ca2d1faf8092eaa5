#!/usr/bin/env bash
# Lint, types and tests. Arguments go to pytest, for example: bash scripts/test.sh -m slow
set -euo pipefail
. "$(dirname "$0")/setup.sh"
ruff check .
ruff format --check .
mypy
clang-format --dry-run -Werror plugins/*.cpp plugins/*/*.{h,cu,cpp} tests/native/*.cpp tests/native/*/*
python -m pytest "$@"
