#!/usr/bin/env bash
# Unpacks a real MySQL server (Debian unstable's mysql-server-core) into target/mysql, installs nothing, and prints
# the path of a program that behaves as its mysqld. Where it cannot be had: one line that says so, exit code 3.
#
#   MILLRACE_MYSQL_BIN=$(scripts/real-mysql.sh) cargo test ...
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/debian.sh"

skip() { echo "real MySQL: SKIPPED, $*" >&2; exit 3; }

# Root's servers run as another user, who must be able to walk to the program: where the clone is closed to
# others, it is unpacked elsewhere and a link leads there.
place() {
    local wanted=$root/target/mysql made
    mkdir -p "$root/target"
    if [ -L "$wanted" ]; then
        readlink "$wanted"
    elif [ "$(id -u)" != 0 ] || open_to_all "$root/target"; then
        echo "$wanted"
    else
        made=$(mktemp -d /var/tmp/millrace-mysql-XXXXXXXX)
        chmod 755 "$made"
        ln -s "$made/unpacked" "$wanted"
        echo "$made/unpacked"
    fi
}

# Whether everyone may pass the folder and all above it.
open_to_all() {
    local folder=$1
    while (( 8#$(stat -c %a "$folder") & 1 )); do
        [ "$folder" != / ] || return 0
        folder=$(dirname "$folder")
    done
    return 1
}

wrap() {
    local folder=$1 loader libraries
    loader=$(debian_loader "$folder") || return 1
    libraries=$(debian_libraries "$folder")
    cat >"$folder/mysqld.new" <<WRAPPER
#!/bin/sh
# --no-defaults must stay first; what follows later wins.
exec "$loader" --library-path "$libraries" "$folder/usr/sbin/mysqld" "\$@" \\
    --basedir="$folder/usr" --lc-messages-dir="$folder/usr/share/mysql" \\
    --character-sets-dir="$folder/usr/share/mysql/charsets" --plugin-dir="$folder/usr/lib/mysql/plugin" \\
    --secure-file-priv=
WRAPPER
    chmod 755 "$folder/mysqld.new"
    mv "$folder/mysqld.new" "$folder/mysqld"
}

folder=$(place)
if ! [ -x "$folder/mysqld" ]; then
    echo "real MySQL: unpacking Debian unstable's mysql-server-core (nothing is installed)" >&2
    debian_unpack sid "$folder" "" "mysql-server-core" >&2 || skip "Debian unstable's mysql-server-core cannot be had"
    chmod 755 "$folder"
    wrap "$folder" || skip "its loader is missing"
fi
"$folder/mysqld" --version >&2 || skip "it does not run on this machine"
echo "$folder/mysqld"
