#!/usr/bin/env bash
# The tests, in an environment of their own making.
set -euo pipefail
source "$(dirname "$0")/venv.sh"
ruff check .
mypy
python -m pytest "$@"
