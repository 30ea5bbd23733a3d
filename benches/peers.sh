#!/bin/sh
# Gets the servers to measure against, without installing them: they shut one another
# out and would serve. netkit's and rsh-redone's are Debian's packages, unpacked; GNU
# inetutils' rlogind is in none, and is built from Debian's source package. What cannot
# be had is left out of the benchmark.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=$here/../target/peers
mkdir -p "$target"
target=$(cd "$target" && pwd)
cd "$target"

unpack() {
    [ ! -d "$1" ] || return 0
    echo "Unpacking $1"
    rm -rf incoming && mkdir incoming
    (cd incoming && apt-get -qq -o APT::Sandbox::User=root download "$1" && dpkg -x "$1"_*.deb root)
    dpkg-deb --field incoming/"$1"_*.deb Version >"$1.version"
    mv incoming/root "$1"
}

# From where the machine has its packages; with a list of sources and a state of its
# own: the machine's are left as they are.
source_of() {
    mkdir -p apt/lists/partial apt/cache/archives/partial
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' |
        sed -n "s/^$release main //p" | head -n 1)
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >apt/sources.list
    for step in update "source --download-only $1"; do
        # $step is a list of words.
        # shellcheck disable=SC2086
        apt-get -qq -o Dir::Etc::SourceList="$target/apt/sources.list" -o Dir::Etc::SourceParts=- \
            -o Dir::State::Lists="$target/apt/lists" -o Dir::Cache="$target/apt/cache" \
            -o APT::Sandbox::User=root $step
    done
}

inetutils() {
    [ ! -d inetutils ] || return 0
    echo "Building inetutils' rlogind (a minute)"
    rm -rf build && mkdir build
    source_of inetutils
    mv inetutils_* build
    tar -C build --strip-components=1 -xf build/inetutils_*.orig.tar.xz
    tar -C build -xf build/inetutils_*.debian.tar.xz
    (
        cd build
        grep -v '^#' debian/patches/series | while read -r patch; do
            patch -s -p1 <"debian/patches/$patch" || exit 1
        done
        # As Debian has it for what it does package.
        ./configure -q --disable-servers --disable-clients --enable-rlogind --without-idn --with-pam \
            --runstatedir=/run CFLAGS="-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2"
        # The patches touch what these would be made from again.
        for part in "lib" "libinetutils" "src rlogind"; do
            # shellcheck disable=SC2086
            make AUTOCONF=: AUTOMAKE=: ACLOCAL=: AUTOHEADER=: MAKEINFO=: -j2 -C $part
        done
    ) >build.log 2>&1
    sed -n 's/^Version: //p' build/*.dsc >inetutils.version
    mkdir inetutils.new
    strip -o inetutils.new/rlogind build/src/rlogind
    mv inetutils.new inetutils
    rm -rf build apt
}

# One of them, in a process of its own: inside a condition `set -e` does nothing.
if [ "${1:-}" = only ]; then
    shift
    "$@"
    exit 0
fi
for peer in "unpack rsh-server" "unpack rsh-redone-server" inetutils; do
    # $peer is a list of words.
    # shellcheck disable=SC2086
    "$here/peers.sh" only $peer || echo "It is left out: $peer" >&2
done
{
    [ ! -e rsh-server.version ] || echo "netkit: rsh-server $(cat rsh-server.version) (Debian)"
    [ ! -e rsh-redone-server.version ] || echo "rsh-redone: rsh-redone-server $(cat rsh-redone-server.version) (Debian)"
    [ ! -e inetutils.version ] || echo "GNU inetutils: $(cat inetutils.version) (built from Debian's source)"
} >versions
