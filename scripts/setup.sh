# Sourced by the other scripts: makes .venv and installs this checkout into it, once per change of the requirements.
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=
for candidate in python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Error: no Python of version 3.11 or later was found; install one, on Debian with 'apt-get install python3'." >&2
    exit 1
fi

stamp=.venv/installed-$(cat pyproject.toml constraints.txt CMakeLists.txt plugins/CMakeLists.txt plugins/cmake/* | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    if ! "$python" -m venv .venv; then
        echo "Error: $python cannot make virtual environments; on Debian run 'apt-get install python3-venv'." >&2
        exit 1
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cpu,dev]'
    rm -f .venv/installed-*
    touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
