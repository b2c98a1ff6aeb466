# Sourced by run: an engine of our own, where none runs.
#
# It lives in a network namespace of its own, with one way out through the host. dockerd turns on
# forwarding, sets the policy of forwarded packets to DROP and has bridged packets filtered, which
# silently breaks whatever else has bridges on the machine; in there it disturbs nobody, and all of it
# is gone with the namespace.

engine_pid=
engine_space=
engine_uplink=100.64.77 # Of the shared range for carriers (RFC 6598), which nobody's networks use.
engine_forward=

reach_engine() {
    timeout 10 docker info >/dev/null 2>&1
}

# Prints why none can be started, or nothing.
cannot_start_engine() {
    local program
    [ "$(id -u)" = 0 ] || { echo "this takes root"; return; }
    for program in dockerd containerd ip iptables nsenter; do
        command -v $program >/dev/null || { echo "there is no $program"; return; }
    done
}

start_engine() {
    engine_space=postern-compose-$$
    local inside=pc$$i outside=pc$$o socket=$temp/docker.sock
    ip netns add "$engine_space"
    ip link add "$outside" type veth peer name "$inside" netns "$engine_space"
    ip addr add $engine_uplink.1/30 dev "$outside"
    ip link set "$outside" up
    ip -n "$engine_space" link set lo up
    ip -n "$engine_space" addr add $engine_uplink.2/30 dev "$inside"
    ip -n "$engine_space" link set "$inside" up
    ip -n "$engine_space" route add default via $engine_uplink.1
    engine_forward=$(cat /proc/sys/net/ipv4/ip_forward)
    echo 1 >/proc/sys/net/ipv4/ip_forward
    uplink_rules -I

    mkdir -p "$cache/engine"
    # In a session of its own: at Ctrl-C the containers are taken down first, then the engine by us.
    setsid nsenter --net="/run/netns/$engine_space" dockerd --host "unix://$socket" \
        --data-root "$cache/engine" --exec-root "$temp/exec" --pidfile "$temp/docker.pid" \
        </dev/null >"$temp/dockerd.log" 2>&1 &
    engine_pid=$!
    export DOCKER_HOST=unix://$socket
    local tenths
    for ((tenths = 0; tenths < 600; tenths++)); do
        if reach_engine; then
            docker version --format 'engine {{.Server.Version}}, client {{.Client.Version}}'
            return
        fi
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$temp/dockerd.log" >&2
    echo "the engine did not start" >&2
    return 1
}

# uplink_rules -I|-D: lets the engine's containers out, and only answers in.
uplink_rules() {
    local outside=pc$$o
    iptables -w "$1" FORWARD -i "$outside" -j ACCEPT
    iptables -w "$1" FORWARD -o "$outside" -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
    iptables -w -t nat "$1" POSTROUTING -s $engine_uplink.0/30 ! -o "$outside" -j MASQUERADE
}

stop_engine() {
    [ -n "$engine_space" ] || return 0
    local tenths mounted
    if [ -n "$engine_pid" ]; then
        kill "$engine_pid" 2>/dev/null || true
        for ((tenths = 0; tenths < 300; tenths++)); do
            kill -0 "$engine_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$engine_pid" 2>/dev/null || true
        wait "$engine_pid" 2>/dev/null || true
        engine_pid=
    fi
    while read -r mounted; do
        umount -l "$mounted" 2>/dev/null || true
    done < <(awk -v a="$temp/" -v b="$cache/engine" \
        'index($2, a) == 1 || index($2, b) == 1 { print $2 }' /proc/mounts | sort -r)
    uplink_rules -D 2>/dev/null || true
    [ -z "$engine_forward" ] || echo "$engine_forward" >/proc/sys/net/ipv4/ip_forward
    ip netns del "$engine_space"
    engine_space=
}
