# Sourced by wasm.sh and real-mysql.sh: unpacks packages of some Debian suite into a folder,
# without installing anything and without touching the machine's own apt state.
#
#   debian_unpack SUITE FOLDER "PACKAGE..." "ROOT..."   the packages as they are, and the roots with
#                                all that they depend on, into FOLDER (complete or not there at all)
#   debian_loader FOLDER                         path of that folder's own dynamic loader
#   debian_libraries FOLDER                      its --library-path
#
# Works as root and as a plain user. Needs apt-get, dpkg and a Debian mirror.

# One of the machine's own mirrors that carries Debian; the public one where there is none.
debian_mirror() {
    local uri
    uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -e 's/#.*//' -e 's/\[[^]]*\]//' |
        awk '$1 == "deb" { print $2 } $1 == "URIs:" { for (i = 2; i <= NF; i++) print $i }' |
        grep -E '/debian/?$' | head -n 1) || true
    echo "${uri:-http://deb.debian.org/debian}"
}

# apt-get or apt-cache with sources, lists and cache of its own below FOLDER/.apt.
debian_apt() {
    local folder=$1 tool=$2
    shift 2
    "$tool" -q -q \
        -o Dir::Etc::SourceList="$folder/.apt/sources.list" \
        -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null \
        -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State="$folder/.apt/state" \
        -o Dir::State::status="$folder/.apt/status" \
        -o Dir::Cache="$folder/.apt/cache" \
        -o APT::Sandbox::User="$(id -un)" \
        -o APT::Get::List-Cleanup=false \
        -o APT::Update::Post-Invoke-Success::= \
        -o Acquire::Languages=none \
        -o Acquire::http::Timeout=20 \
        -o Acquire::Retries=2 \
        "$@"
}

debian_unpack() {
    local suite=$1 folder=$2 packages=$3 roots=$4 work=$2.partial keyring
    keyring=$(debian_keyring) || return 1
    rm -rf "$work"
    mkdir -p "$work/.apt/state/lists/partial" "$work/.apt/cache/archives/partial" "$work/.apt/debs"
    : >"$work/.apt/status"
    echo "deb [signed-by=$keyring] $(debian_mirror) $suite main" >"$work/.apt/sources.list"
    debian_apt "$work" apt-get update || return 1
    debian_closure "$work" "$packages" "$roots" >"$work/.apt/packages"
    debian_download "$work" || return 1
    local deb
    for deb in "$work"/.apt/debs/*.deb; do
        dpkg-deb -x "$deb" "$work" || return 1
    done
    rm -rf "$work/.apt/debs" "$work/.apt/state" "$work/.apt/cache" "$folder"
    mv "$work" "$folder"
}

debian_keyring() {
    local tool keyring
    for tool in apt-get apt-cache dpkg-deb; do
        command -v "$tool" >/dev/null || { echo "no $tool on this machine" >&2; return 1; }
    done
    for keyring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
        [ -r "$keyring" ] && echo "$keyring" && return 0
    done
    echo "no Debian signing keys on this machine (apt-get install debian-archive-keyring)" >&2
    return 1
}

# The packages, the roots, and every library that the roots need: programs that packages want beside them
# (perl, debconf) are of no use in a folder.
debian_closure() {
    local work=$1 packages=$2 roots=$3
    {
        # shellcheck disable=SC2086
        printf '%s\n' $packages $roots
        # shellcheck disable=SC2086
        debian_apt "$work" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
            --no-breaks --no-replaces --no-enhances $roots | grep -E '^(lib|zlib)'
    } | sort -u
}

debian_download() {
    local -a names
    mapfile -t names <"$1/.apt/packages"
    (cd "$1/.apt/debs" && debian_apt "$1" apt-get download "${names[@]}")
}

debian_loader() {
    local loader
    for loader in "$1"/lib64/ld-linux-*.so.* "$1"/lib/ld-linux-*.so.* "$1"/usr/lib64/ld-linux-*.so.* "$1"/usr/lib/*/ld-linux-*.so.* "$1"/usr/lib/ld-linux-*.so.*; do
        [ -x "$loader" ] && readlink -f "$loader" && return 0
    done
    echo "no dynamic loader below $1" >&2
    return 1
}

debian_libraries() {
    local triplet
    triplet=$(ls "$1/usr/lib" | grep -E -- '-linux-gnu' | head -n 1)
    echo "$1/usr/lib/$triplet:$1/lib/$triplet:$1/usr/lib"
}
