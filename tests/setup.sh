#!/bin/sh
# Installs what this project needs of Debian's packages, when it is missing:
# setup.sh build|run|test|fuzz|bench|deb|rpm|install-test [...]. Says what to install when it is not root and has no sudo.
set -eu

packages=
superservers=
# Programs of crates.io, NAME@VERSION, built into target/tools.
tools=
for purpose in "$@"; do
    case $purpose in
        # PAM's header, and libclang, with which its Rust binding reads it.
        build) packages="$packages gcc libc6-dev libpam0g-dev libclang-dev" ;;
        # libFuzzer is written in C++.
        fuzz) packages="$packages g++" ;;
        # A client to log in with.
        run) packages="$packages libpam-modules rsh-redone-client" ;;
        # Four clients, the tools that make and look into a test's own machine,
        # and the libraries of the superservers.
        test) packages="$packages libpam-modules rsh-client rsh-redone-client putty-tools ckermit
                        iproute2 procps util-linux mount coreutils
                        systemd libwrap0 libtirpc3 libbsd0 libevent-2.1-7"
              superservers="$superservers inetutils-inetd openbsd-inetd xinetd" ;;
        # What builds a server to measure against, and the tools that make a machine
        # for each; a superserver for them, and its libraries.
        bench) packages="$packages make patch xz-utils libpam-modules login
                         iproute2 util-linux mount coreutils
                         libwrap0 libtirpc3 libbsd0 libevent-2.1-7"
               superservers="$superservers openbsd-inetd" ;;
        # dpkg-shlibdeps, and the judge of what comes out.
        deb) packages="$packages dpkg-dev lintian"
             tools="$tools cargo-deb@3.8.0" ;;
        rpm) packages="$packages rpm"
             tools="$tools cargo-generate-rpm@0.21.1" ;;
        # A Debian of its own to install in, and what boots it.
        install-test) packages="$packages debootstrap systemd-container util-linux" ;;
        *) echo "setup.sh: what is '$purpose'?" >&2; exit 2 ;;
    esac
done

missing=
for package in $packages; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done

# Superservers shut one another out and serve as soon as they are installed: they
# are only unpacked, where the tests look for them.
unpack() {
    [ -n "$superservers" ] || return 0
    folder=$(dirname "$0")/../target/superservers
    for package in $superservers; do
        # Made when all of the package is there.
        [ ! -e "$folder/.$package" ] || continue
        mkdir -p "$folder"
        echo "Unpacking $package"
        if ! (cd "$folder" && apt-get -qq -o APT::Sandbox::User=root download "$package" &&
            dpkg -x "$package"_*.deb . && touch ".$package"); then
            echo "What needs $package is left out." >&2
        fi
        rm -f "$folder/$package"_*.deb
    done
}

# Without optimisation, which takes half the time: they pack a few files, and no more.
build_tools() {
    folder=$(dirname "$0")/../target/tools
    for tool in $tools; do
        [ ! -e "$folder/.$tool" ] || continue
        echo "Building $tool"
        "${CARGO:-cargo}" install --quiet --locked --debug --root "$folder" "$tool"
        touch "$folder/.$tool"
    done
}

if [ -z "$missing" ]; then
    unpack
    build_tools
    exit 0
fi

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
unpack
build_tools
