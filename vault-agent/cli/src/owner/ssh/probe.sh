# What kind of host this is. Any POSIX shell runs it; it changes nothing but for two files that it
# removes again. `role` is what the agent is to be (`host` or `user`), `$@` the server's addresses.
say() { printf '%s=%s\n' "$1" "$2"; }
have() { command -v "$1" >/dev/null 2>&1; }
PATH=$PATH:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
say time "$(date +%s)"
say system "$(uname -s)"
say arch "$(uname -m)"
say uid "$(id -u)"
say user "$(id -un 2>/dev/null || id -u)"
say home "${HOME:-/}"

if libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) && [ -n "$libc" ]; then say libc "$libc"
else
  for loader in /lib/ld-musl-*; do [ -e "$loader" ] && { say libc musl; break; }; done
fi

[ -d /run/systemd/system ] && say systemd host
runtime=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
[ -S "$runtime/systemd/private" ] && say manager user

container=
have systemd-detect-virt && container=$(systemd-detect-virt --container 2>/dev/null) || :
[ "$container" = none ] && container=
if [ -z "$container" ]; then
  if [ -r /run/systemd/container ]; then read -r container </run/systemd/container || :
  elif [ -e /.dockerenv ]; then container=docker
  elif [ -e /run/.containerenv ]; then container=podman
  elif grep -qi microsoft /proc/version 2>/dev/null; then container=wsl
  fi
fi
[ -n "$container" ] && say container "$container"

if [ "$(id -u)" = 0 ]; then say root own
elif ! have sudo; then say root none
elif sudo -n true 2>/dev/null </dev/null; then say root sudo
else say root password
fi

# Where the programs would go: room in KiB, and whether what lies there may run.
if [ "$role" = user ]; then folder=${HOME:-/}/.local/bin; else folder=/usr/local/bin; fi
near=$folder
while [ ! -d "$near" ]; do near=$(dirname "$near"); done
free=$(df -Pk "$near" 2>/dev/null | tail -n 1 | awk '{ print $4 }' 2>/dev/null) || free=
[ -n "$free" ] && say free "$free"
if [ -w "$near" ] && trial=$(mktemp "$near/.vault-probe.XXXXXX" 2>/dev/null); then
  printf '#!/bin/sh\nexit 0\n' >"$trial"
  chmod 700 "$trial"
  "$trial" 2>/dev/null || say noexec "$near"
  rm -f "$trial"
fi

# The agent that is there, where the new one would be or root would look.
found=
if [ "$role" = user ] || [ "$(id -u)" = 0 ]; then found=$(command -v vault-agent 2>/dev/null) || found=; fi
for agent in "$folder/vault-agent" /usr/bin/vault-agent "$found"; do
  [ -x "$agent" ] || continue
  version=$("$agent" --version 2>/dev/null </dev/null) || continue
  # Another program of that name is none.
  case $version in 'vault-agent '[0-9]*) ;; *) continue ;; esac
  say agent "$agent"
  say version "$version"
  break
done

# Which addresses answer: with what there is here. A name in brackets is IPv6.
for address in "$@"; do
  port=${address##*:} name=${address%:*} name=${name#[} name=${name%]}
  answer=unknown
  if have bash && have timeout; then
    if timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$name" "$port" >/dev/null 2>&1 </dev/null
    then answer=yes; else answer=no; fi
  elif have python3; then
    if python3 -c 'import socket,sys; socket.create_connection(sys.argv[1:], 3)' "$name" "$port" \
      2>/dev/null </dev/null
    then answer=yes; else answer=no; fi
  elif have nc; then
    if nc -w 3 "$name" "$port" >/dev/null 2>&1 </dev/null; then answer=yes; else answer=no; fi
  fi
  say "$answer" "$address"
done
echo vault-probe-end
