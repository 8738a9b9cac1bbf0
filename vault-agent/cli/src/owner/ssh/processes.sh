# Agents that run as processes, where systemd does not run. `agent` is their program, `state` where
# their state is.

# Tells whether process `$1` is an agent.
runs() {
  [ -n "$1" ] && [ -r "/proc/$1/cmdline" ] &&
    { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null | grep -q 'agent run '
}
# Prints the agents of this user and this state: the one that was noted, and any whose note is lost.
agents() {
  noted=
  [ ! -r "$state/agent.pid" ] || read -r noted <"$state/agent.pid" || :
  ! runs "$noted" || echo "$noted"
  for file in $(grep -l agent /proc/[0-9]*/cmdline 2>/dev/null); do
    process=${file%/cmdline} pid=${file%/cmdline} pid=${pid#/proc/}
    [ "$pid" != "$noted" ] || continue
    [ "$({ tr '\0' ' ' <"$file"; } 2>/dev/null)" = "$agent run " ] || continue
    grep -q "^Uid:[[:space:]]*$(id -u)[[:space:]]" "$process/status" 2>/dev/null || continue
    if said=$({ tr '\0' '\n' <"$process/environ"; } 2>/dev/null); then
      there=$(printf '%s\n' "$said" | sed -n 's/^VAULT_STATE_DIR=//p')
      [ "$there" = "${VAULT_STATE_DIR:-}" ] || continue
    fi
    echo "$pid"
  done
}
# Ends process `$1`, and waits for its end.
finish() {
  kill "$1" || return 0
  n=0
  while runs "$1" && [ "$n" -lt 30 ]; do sleep 1; n=$((n + 1)); done
}
