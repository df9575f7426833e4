# Sourced by the scripts here: a virtual environment in the checkout, made anew when requirements.txt changes.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/installed-$(sha256sum requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
    echo "Installing the requirements into .venv (about 6 GB with CUDA, a few minutes) ..."
    python3 -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
    rm -f .venv/installed-*
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
