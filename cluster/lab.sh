#!/bin/bash
# Hosts made of network namespaces: each with a name, processes, a network device, a working folder,
# /tmp and /dev/shm of its own, all on this machine and gone when this script ends. No root rights are
# needed where user namespaces are allowed.
#
#   cluster/lab.sh FOLDER [--hosts 2] [--rate 1gbit] [--delay 5ms] [--loss 0.1] [--decoy] [--ipv6]
#       [-- COMMAND...]
#   cluster/lab.sh --check          says what of this the machine allows
#
# The hosts are box1 (10.77.0.1), box2, ... Each sees its own FOLDER/boxK/work as FOLDER/work; what
# is put there is there on that host alone. COMMAND runs on box1 in that folder, and its exit code
# is the script's; without one the hosts stay until the script is ended, ready when FOLDER/ready is there.
#   FOLDER/on box2 'COMMAND'        runs a command on a host, as if at its console
#   FOLDER/ssh box2 'COMMAND'       the same over the network: fails while either end's device is down
# For mpirun, which has FOLDER/ssh in place of ssh (OMPI_MCA_plm_rsh_agent), hearth train included.
# --rate, --delay and --loss limit what each host sends. --decoy gives all hosts a second device that
# leads nowhere, docker0 with 172.17.0.1: what looks like a network and is none. With --ipv6 the
# hosts are fd00:77::1, fd00:77::2, ... and have no IPv4 address but the loopback's.
set -u

die() { echo "lab: $*" >&2; exit 1; }

# Where a limit cannot be made, the reason, and an end that says "not here".
missing() { echo "lab: not on this machine: $*" >&2; exit 77; }

isolate() { unshare --user --map-root-user --net --mount --uts --pid --fork --mount-proc --kill-child "$@"; }

check() {
  local probe
  for probe in "hosts:ip link add sw type bridge && ip link add v1 type veth peer name v2 && hostname box &&
                mount -t tmpfs lab /mnt" \
               "rate:tc qdisc add dev lo root tbf rate 1gbit burst 256k latency 50ms" \
               "delay:tc qdisc add dev lo root netem delay 1ms" \
               "loss:nft add table inet lab && nft add chain inet lab out '{ type filter hook output priority 0; }' &&
                nft add rule inet lab out numgen random mod 1000 '<' 1 drop"; do
    if isolate bash -c "${probe#*:}" >/dev/null 2>&1; then
      echo "${probe%%:*}: yes"
    else
      echo "${probe%%:*}: no ($(isolate bash -c "${probe#*:}" 2>&1 | head -1))"
    fi
  done
}

# On a host: $1 its number. Takes commands from its queue until the lab ends.
box() {
  local name="box$1" folder=$lab_folder job
  hostname "$name" && ip link set lo up || die "$name has no name or network"
  mount -t tmpfs lab-shm /dev/shm && mount --bind "$folder/hosts" /etc/hosts || die "$name: mounts"
  # The lab's folder stays where it is, also when that is below /tmp.
  mount --bind "$folder" /mnt && mount --bind "/mnt/$name/tmp" /tmp && mkdir -p "$folder" &&
    mount --bind /mnt "$folder" && umount /mnt || die "$name: mounts"
  mount --bind "$folder/$name/work" "$folder/work" && cd "$folder/work" || die "$name: work folder"
  exec 3<>"$folder/control/$name"
  touch "$folder/control/$name.up"
  while read -r job <&3; do
    ( env -i PATH="$PATH" HOME=/ TERM=dumb ASAN_OPTIONS="${ASAN_OPTIONS:-}" \
        OMPI_MCA_plm_rsh_agent="$folder/ssh" bash "$folder/control/$job" \
        </dev/null >"$folder/control/$job.out" 2>"$folder/control/$job.err" 3>&-
      echo $? >"$folder/control/$job.next"
      mv "$folder/control/$job.next" "$folder/control/$job.end" ) &
  done
}

shape() {  # $1: the host's process
  local in="nsenter -t $1 -n" root=root
  if [ -n "$lab_delay" ]; then
    $in tc qdisc add dev eth0 root handle 1: netem delay "$lab_delay" limit 100000 2>/dev/null ||
      missing "delay: this kernel has no netem"
    root="parent 1:"
  fi
  if [ -n "$lab_rate" ]; then
    # The burst is a few packets as large as the kernel may join them.
    $in tc qdisc add dev eth0 $root tbf rate "$lab_rate" burst 256k latency 100ms 2>/dev/null ||
      missing "rate: this kernel has no tbf"
  fi
  [ -n "$lab_loss" ] || return 0
  command -v nft >/dev/null || missing "loss: no nft (Debian: nftables)"
  local per_million
  per_million=$(awk "BEGIN {printf \"%d\", $lab_loss * 10000}")
  $in nft add table inet lab &&
    $in nft add chain inet lab out '{ type filter hook output priority 0; }' &&
    $in nft add rule inet lab out oifname eth0 numgen random mod 1000000 '<' "$per_million" drop ||
    missing "loss: this kernel's nftables cannot drop at random"
}

# In the lab's own namespaces, where it is root.
inside() {
  local i pid pids=()
  ip link add sw type bridge && ip link set sw up || missing "hosts: no bridge device"
  for i in $(seq "$lab_hosts"); do
    unshare --net --uts --mount --pid --fork --mount-proc --kill-child "$0" --box "$i" &
    pid=$!
    pids+=("$pid")
    while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do
      kill -0 "$pid" 2>/dev/null || die "box$i does not start"
      sleep 0.01
    done
    ip link add "port$i" type veth peer name eth0 netns "$pid" && ip link set "port$i" master sw up ||
      missing "hosts: no veth devices"
    # Without a search for others of that address (nodad) it is there at once.
    nsenter -t "$pid" -n ip addr add "$lab_prefix$i/${lab_ipv6:-24}" dev eth0 ${lab_ipv6:+nodad} &&
      nsenter -t "$pid" -n ip link set eth0 up || missing "hosts: no addresses${lab_ipv6:+ of IPv6}"
    if [ -n "$lab_decoy" ]; then
      nsenter -t "$pid" -n bash -c 'ip link add docker0 type bridge && ip addr add 172.17.0.1/16 dev docker0 &&
        ip link add pin type veth peer name pin2 && ip link set pin master docker0 up &&
        ip link set pin2 up && ip link set docker0 up' || die "box$i: no decoy"
    fi
    shape "$pid"
  done
  for i in $(seq "$lab_hosts"); do
    until [ -e "$lab_folder/control/box$i.up" ]; do
      kill -0 "${pids[$((i - 1))]}" 2>/dev/null || die "box$i has ended"
      sleep 0.01
    done
  done
  touch "$lab_folder/ready"
  if [ $# -eq 0 ]; then
    wait
  else
    printf -v command '%q ' "$@"
    "$lab_folder/on" box1 "$command"
  fi
}

make_scripts() {
  cat >"$lab_folder/on" <<'END'
#!/bin/sh
# HOST COMMAND...
host=$1; shift
cd "$(dirname "$0")/control" || exit 1
job=$(mktemp "job-$host-XXXXXX")
printf 'cd %s/../work 2>/dev/null\n%s\n' "$PWD" "$*" >"$job"
echo "$job" >"$host"
while [ ! -e "$job.end" ]; do sleep 0.02; done
cat "$job.out"; cat "$job.err" >&2
exit "$(cat "$job.end")"
END
  cat >"$lab_folder/ssh" <<'END'
#!/bin/sh
# As ssh: [-x] [-o ...] HOST COMMAND...
while [ "${1#-}" != "$1" ]; do case $1 in -o | -l | -p) shift ;; esac; shift; done
host=$1
here=$(dirname "$0")
for end in "$(hostname)" "$host"; do
  [ -p "$here/control/$end" ] || continue
  "$here/on" "$end" 'ip -o link show eth0' | grep -q 'state UP' && continue
  sleep 1
  echo "ssh: connect to host $host port 22: No route to host" >&2
  exit 255
done
exec "$here/on" "$@"
END
  chmod +x "$lab_folder/on" "$lab_folder/ssh"
}

if [ "${1:-}" = --box ]; then box "$2"; exit; fi
if [ "${1:-}" = --inside ]; then shift; inside "$@"; exit; fi
for tool in unshare nsenter ip tc; do
  command -v $tool >/dev/null || missing "hosts: no $tool (Debian: util-linux, iproute2)"
done
if [ "${1:-}" = --check ]; then check; exit; fi
[ $# -gt 0 ] || die "usage: the first lines of $0"
mkdir -p "$1" && cd "$1" || die "$1 cannot be made"
lab_folder=$PWD; cd "$OLDPWD" || exit 1
shift
lab_hosts=2 lab_rate= lab_delay= lab_loss= lab_decoy= lab_ipv6= lab_prefix=10.77.0.
while [ $# -gt 0 ]; do
  case $1 in
    --hosts) lab_hosts=$2; shift ;;
    --rate) lab_rate=$2; shift ;;
    --delay) lab_delay=$2; shift ;;
    --loss) lab_loss=$2; shift ;;
    --decoy) lab_decoy=1 ;;
    --ipv6) lab_ipv6=64 lab_prefix=fd00:77:: ;;
    --) shift; break ;;
    *) die "unknown option $1" ;;
  esac
  shift
done
export lab_folder lab_hosts lab_rate lab_delay lab_loss lab_decoy lab_ipv6 lab_prefix
rm -rf "$lab_folder/control" "$lab_folder/ready"
mkdir -p "$lab_folder/control" "$lab_folder/work"
echo "127.0.0.1 localhost" >"$lab_folder/hosts"
for i in $(seq "$lab_hosts"); do
  mkdir -p "$lab_folder/box$i/work" "$lab_folder/box$i/tmp"
  mkfifo "$lab_folder/control/box$i"
  echo "$lab_prefix$i box$i" >>"$lab_folder/hosts"
done
make_scripts
isolate true 2>/dev/null || missing "hosts: no user namespaces (unshare --user)"
isolate "$(readlink -f "$0")" --inside "$@"
