# What the scripts beside this file share: Debian packages and Pythons. Sourced, not run.

OLDEST=3.11
NEWEST=3.13

say() {
    printf '== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# install_packages NAME...: those that this Debian lacks. Root installs them; anybody else is
# told what to type. A system without dpkg is taken at its word.
install_packages() {
    local name missing=()
    if ! command -v dpkg-query >/dev/null; then
        printf 'not a Debian: you need what these packages hold: %s\n' "$*" >&2
        return
    fi
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "type: sudo apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}"
}

# is_python PROGRAM [VERSION]: does it run, can it make a venv, is it that version (or a
# supported one)?
is_python() {
    "$1" -c '
import ensurepip, sys, venv
version = "%d.%d" % sys.version_info[:2]
sys.exit(version != sys.argv[1] if len(sys.argv) > 1 else sys.version_info < (3, 11))
' ${2:+"$2"} >/dev/null 2>&1
}

# find_python [VERSION]: a path, or nothing and status 1. Looked for on the PATH, among pyenv's
# and uv's, and last Debian's own.
find_python() {
    local candidate home
    home=$(getent passwd "$(id -u)" | cut -d: -f6)
    for candidate in "python${1:-3.13}" "python${1:-3.12}" "python${1:-3.11}" python3 \
        "${PYENV_ROOT:-$home/.pyenv}/versions/${1:-3}".*/bin/python \
        "$home/.local/share/uv/python/cpython-${1:-3}".*/bin/python /usr/bin/python3; do
        candidate=$(command -v "$candidate") || continue
        is_python "$candidate" ${1:+"$1"} || continue
        "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
        return
    done
    return 1
}
