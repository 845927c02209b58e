#!/bin/sh
# Makes .venv with everything a checkout needs: the locked requirements and both packages, editable.
# Called by `make setup`. Needs Python 3.11 or newer; on a Debian without venv, root may install it.
# The system's own Python comes before one that was compiled here: distributions build theirs with profiles of use, and
# a bridge on it takes a tenth to a fifth less CPU a task. PYTHON=/path/to/python3 names another.
set -eu
cd "$(dirname "$0")/.."
venv=.venv

say() { printf 'setup: %s\n' "$*" >&2; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() {
    system=/usr/bin/python3
    if [ -z "${PYTHON:-}" ] && new_enough $system && { has_venv $system || can_install; }; then
        echo $system
        return 0
    fi
    for name in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if new_enough "$name"; then
            command -v "$name"
            return 0
        fi
    done
    return 1
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }

install() {
    say "installing $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

if [ -n "${PYTHON:-}" ] && ! new_enough "$PYTHON"; then
    say "PYTHON=$PYTHON is no Python 3.11 or newer"
    exit 1
fi
python=$(find_python) || {
    can_install || { say "no Python 3.11 or newer was found: install one, or name it: make setup PYTHON=/path/to/python3"; exit 1; }
    install python3 python3-venv
    python=$(find_python) || { say "this system's python3 is older than 3.11: name a newer one, make setup PYTHON=/path/to/python3"; exit 1; }
}

if ! { [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }; then
    rm -rf "$venv"
    if ! has_venv "$python"; then
        can_install || { say "$python has no venv module: install it (Debian: apt-get install python3-venv) and say make setup again"; exit 1; }
        install python3-venv
    fi
    say "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
say "installing the locked requirements"
# twice quiet: Debian's pip warns of how one requirement is packed, which nobody here can change
"$venv/bin/python" -m pip install --quiet --quiet --require-hashes --requirement requirements/dev.txt
say "installing both packages, editable"
"$venv/bin/python" -m pip install --quiet --no-build-isolation --no-deps --no-index --editable sdk --editable bridge
say "done: $venv"
