#!/bin/sh
# Get what the tests need besides Python: a real broker, its command line clients, a PostgreSQL server, MQTT.js as a
# device, a load balancer.
#
#     sh tests/servers.sh [PROGRAM...]     e.g. cc: other programs that must be there too
#
# Does nothing when all is there. What cannot be had is said loudly, and the exit code is 0 all the same: the tests that
# need it fail, by name. Nothing is started or stopped; the tests start servers of their own on ports of their own.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/sbin:/usr/local/sbin # where Debian keeps servers, and not everybody looks
for folder in /usr/lib/postgresql/*/bin; do
    PATH=$PATH:$folder # where Debian keeps initdb and postgres
done
node=tests/node

package_of() {
    case $1 in
        mosquitto_pub) echo mosquitto-clients ;;
        node) echo nodejs ;;
        initdb) echo postgresql ;;
        cc) echo gcc libc6-dev ;;
        taskset) echo util-linux ;;
        *) echo "$1" ;;
    esac
}

missing=
for program in mosquitto mosquitto_pub haproxy initdb node npm "$@"; do
    command -v "$program" >/dev/null || missing="$missing $(package_of "$program")"
done
if [ -n "$missing" ]; then
    # shellcheck disable=SC2086 # one word for each package
    sh scripts/debian.sh $missing
fi

# npm writes the hidden file when it is through.
if [ ! "$node/node_modules/.package-lock.json" -nt "$node/package-lock.json" ]; then
    if ! command -v npm >/dev/null || ! (cd "$node" && npm ci --loglevel=error </dev/null >&2); then
        {
            echo
            echo "*** Not installed: MQTT.js. The tests that use it as a device will fail."
            echo "*** With Node.js 18 or newer and npm: cd $node && npm ci"
            echo
        } >&2
    fi
fi
exit 0
