# Sourced by run: images made from Debian's packages, for where no image registry can be reached.
#
# They are named postern-stand-in/*, so that they never pass for the published ones, and stay in the
# engine between runs; each is made again when what it is made of has changed.

stand_in=postern-stand-in

make_stand_ins() {
    local name
    make_base
    for name in postgres rabbitmq mail web; do
        make_stand_in "$name"
    done
    docker images --format '{{.Repository}} {{.Size}}' "$stand_in/*" | sort
}

make_base() {
    ! docker image inspect "$stand_in/debian" >/dev/null 2>&1 || return 0
    command -v debootstrap >/dev/null ||
        { echo "there is no debootstrap: apt-get install debootstrap" >&2; return 1; }
    [ "$(id -u)" = 0 ] || { echo "making the first image takes root, for debootstrap" >&2; return 1; }
    local mirror suites=$temp/rootfs/etc/apt/sources.list
    # The host's own mirror, in either of the forms that apt has.
    mirror=$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
        awk '!found && $1 == "URIs:" { print found = $2 }
             !found && $1 == "deb" { while (++i <= NF) if ($i ~ /^https?:/) { print found = $i; break } }')
    : "${mirror:=http://deb.debian.org/debian}"
    debootstrap --variant=minbase bookworm "$temp/rootfs" "$mirror" >"$temp/debootstrap.log" 2>&1 ||
        { tail -n 20 "$temp/debootstrap.log" >&2; return 1; }
    printf 'deb %s bookworm main\ndeb %s bookworm-updates main\n' "$mirror" "$mirror" >"$suites"
    rm -rf "$temp"/rootfs/var/cache/apt/archives/*.deb "$temp"/rootfs/var/lib/apt/lists/*
    tar -C "$temp/rootfs" -c . | docker import -c 'CMD ["/bin/bash"]' - "$stand_in/debian" >/dev/null
    rm -rf "$temp/rootfs"
}

make_stand_in() {
    local name=$1 context=$here/stand-ins/$1 hash
    hash=$({ docker image inspect -f '{{.Id}}' "$stand_in/debian" && cat "$context"/*; } |
        sha256sum | cut -c 1-16)
    [ "$(docker image inspect -f '{{index .Config.Labels "made-of"}}' "$stand_in/$name" 2>/dev/null)" \
        != "$hash" ] || return 0
    docker build --label "made-of=$hash" -t "$stand_in/$name" "$context" >"$temp/$name.log" 2>&1 ||
        { tail -n 30 "$temp/$name.log" >&2; return 1; }
}
