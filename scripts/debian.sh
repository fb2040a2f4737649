#!/bin/sh
# Install Debian packages: sh scripts/debian.sh PACKAGE...
#
# Starts no service: the mosquitto package would start a broker on port 1883 on machines that run systemd, and the tests
# start their own on ports of their own. Services that already run are left alone.
#
# Exit code 0: installed. 1: could not, and it was said what to do.
set -u

# What Debian asks before it starts a service; 101: do not. Ours is put there only if there is none, and only meanwhile.
policy=/usr/sbin/policy-rc.d

complain() {
    {
        echo
        echo "*** Not installed: $packages"
        echo "*** $1"
        echo "*** Install it yourself: on Debian and Ubuntu with"
        echo "***     sudo apt-get update && sudo apt-get install $packages"
        echo
    } >&2
    exit 1
}

if [ "$(id -u)" = 0 ]; then
    sudo=
elif [ -t 0 ]; then
    sudo=sudo
else
    sudo="sudo -n" # nobody there to type a password
fi

as_root() {
    $sudo "$@"
}

install_all() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 install \
        --no-install-recommends -y "$@" </dev/null >&2
}

# shellcheck disable=SC2317 # called by trap
put_back() {
    [ -z "${ours:-}" ] || as_root rm -f "$policy"
}

packages="$*"
command -v apt-get >/dev/null || complain "This machine has no apt-get."
[ -z "$sudo" ] || command -v sudo >/dev/null || complain "That takes root, and there is no sudo."

echo "Installing with apt-get: $packages" >&2
trap put_back EXIT
trap 'exit 1' HUP INT TERM
if [ ! -e "$policy" ]; then
    as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy" || complain "That takes root."
    ours=yes
fi
# The package lists may be old or not there at all.
install_all "$@" 2>/dev/null ||
    { as_root apt-get -qq update </dev/null >&2 && install_all "$@"; } ||
    complain "apt-get failed; what it said stands above."
