# Sourced by the scripts here: a virtual environment in the checkout, made anew when requirements.txt changes. Or, with
# SUP_TICKETS_PYTHON=/path/of/python, an environment that has the packages already; then nothing is installed.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -n "${SUP_TICKETS_PYTHON:-}" ]; then
    export PATH="$(dirname "$(command -v "$SUP_TICKETS_PYTHON")"):$PATH"
    python -c '
import sys
from importlib.util import find_spec
needed = ("torch", "torchvision", "accelerate", "datasets", "safetensors")
if missing := [name for name in needed if find_spec(name) is None]:
    sys.exit(f"SUP_TICKETS_PYTHON: {sys.executable} has no {chr(44).join(missing)}: see requirements.txt, or unset it")'
    return
fi
stamp=.venv/installed-$(sha256sum requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
    echo "Installing the requirements into .venv (about 6 GB with CUDA, a few minutes) ..."
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    rm -f .venv/installed-*
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
