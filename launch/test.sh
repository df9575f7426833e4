#!/usr/bin/env bash
# The tests, in an environment of their own making.
set -euo pipefail
source "$(dirname "$0")/venv.sh"
stamp=.venv/installed-tests-$(sha256sum tests/requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
    echo "Installing tests/requirements.txt into .venv ..."
    python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
    rm -f .venv/installed-tests-*
    touch "$stamp"
fi
ruff check .
mypy
python -m pytest -n 2 --dist worksteal "$@"  # in two processes; bash launch/test.sh -n 0 FILE is quicker for a single file
