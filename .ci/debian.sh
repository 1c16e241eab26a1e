# SPDX-License-Identifier: Apache-2.0
# Sourced by get-*: files out of Debian's packages, without installing them, which would leave a
# service behind. Only on Debian and its kin, by apt.

there() { PATH="$dir:$PATH" command -v "$1" >/dev/null 2>&1; } # dir: where programs are put

skip() { # where this cannot be done, the tests that need the program are skipped and counted
    echo "make: $program missing ($1): the tests that need it will be skipped" >&2
    exit 0
}

unpack() { # the package into ./tree of a temporary folder, which becomes the current one
    command -v apt-get >/dev/null 2>&1 || skip "no apt here"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    echo "make: getting $program out of Debian's package $1 (some ${seconds:-5} s)"
    if ! apt-get download -qq "$1" >log 2>&1; then
        [ "$(id -u)" = 0 ] || skip "apt has no package list, and only root may fetch one"
        apt-get update -qq >log 2>&1 || skip "apt-get update failed"
        apt-get download -qq "$1" >log 2>&1 || skip "apt offers no package $1"
    fi
    mkdir tree
    dpkg-deb --extract "$1"_*.deb tree
}
