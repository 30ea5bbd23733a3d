#!/bin/sh
# Installs what this project needs of Debian's packages, when it is missing:
# setup.sh build|run|test [...]. Says what to install when it is not root and has no sudo.
set -eu

packages=
for purpose in "$@"; do
    case $purpose in
        # PAM's header, and libclang, with which its Rust binding reads it.
        build) packages="$packages gcc libc6-dev libpam0g-dev libclang-dev" ;;
        # A client to log in with.
        run) packages="$packages libpam-modules rsh-redone-client" ;;
        # Three clients, and the tools that make and look into a test's own machine.
        test) packages="$packages libpam-modules rsh-client rsh-redone-client putty-tools
                        iproute2 procps util-linux mount coreutils" ;;
        *) echo "setup.sh: what is '$purpose'?" >&2; exit 2 ;;
    esac
done

missing=
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Please install, as root: apt-get install$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "Installing$missing"
log=$(mktemp)
# Quiet unless it fails: what apt-get says is of use only then.
for step in "update" "install --yes --no-install-recommends$missing"; do
    # $step and $sudo are lists of words.
    # shellcheck disable=SC2086
    if ! $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 $step >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        exit 1
    fi
done
rm -f "$log"
