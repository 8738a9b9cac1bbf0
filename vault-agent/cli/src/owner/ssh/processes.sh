# Agents that run as processes, and not by systemd. `agent` is their program, `state` where their
# state is, `role` is `host` or `user`.

# The one that was noted: after a restart of the host its number may be any process's.
noted=
[ ! -r "$state/agent.pid" ] || read -r noted <"$state/agent.pid" || :
case $noted in *[!0-9]*) noted= ;; esac

# The one that answers at the socket of this state, as the kernel says.
answers=$("$agent" answering 2>/dev/null </dev/null) || answers=
case $answers in *[!0-9]*) answers= ;; esac

# The one of the unit, whatever it is called.
main=
if [ -d /run/systemd/system ]; then
  user=; [ "$role" = host ] || user=--user
  main=$(systemctl $user show -P MainPID vault-agent 2>/dev/null </dev/null) || main=
fi

# Tells whether process `$1` is an agent of this user and this state: as `vault setup` starts it, as
# it is started here, or as a person starts it by hand; none of a container.
runs() {
  [ "$1" != "$main" ] || return 1
  process=/proc/$1
  grep -q "^Uid:[[:space:]]*$(id -u)[[:space:]]" "$process/status" 2>/dev/null || return 1
  said=$({ tr '\0' '\n' <"$process/cmdline"; } 2>/dev/null) || return 1
  case $said in
    /*"/vault-agent
--state
$state
--config
"*"
run") return 0 ;;
    "$agent
run") ;;
    "vault-agent
run" | *"/vault-agent
run")
      # An agent hides from its own user where it is: one that answers here needs no other proof.
      there=$(readlink "$process/ns/mnt" 2>/dev/null) || there=
      [ "$1" = "$noted" ] || [ "${there:-"$answers"}" = "$1" ] ||
        [ "$there" = "$(readlink /proc/self/ns/mnt)" ] || return 1 ;;
    *) return 1 ;;
  esac
  if said=$({ tr '\0' '\n' <"$process/environ"; } 2>/dev/null); then
    there=$(printf '%s\n' "$said" | sed -n 's/^VAULT_STATE_DIR=//p')
    [ "$there" = "${VAULT_STATE_DIR:-}" ] || return 1
  fi
}
# Prints the agents.
agents() {
  for file in $(grep -l agent /proc/[0-9]*/cmdline 2>/dev/null); do
    pid=${file%/cmdline} pid=${pid#/proc/}
    ! runs "$pid" || echo "$pid"
  done
}
# Ends process `$1`, and waits for its end.
finish() {
  kill "$1" || return 0
  n=0
  while runs "$1" && [ "$n" -lt 30 ]; do sleep 1; n=$((n + 1)); done
}
# Refuses an agent that answers here and that nobody here can end; nothing is changed.
demand_ours() {
  case $answers in
    '' | "$main") ;;
    *) runs "$answers" || refuse_others ;;
  esac
}
refuse_others() {
  echo "an agent runs here that somebody else has started: process $answers" >&2
  echo "hint: end it, then run the same command again" >&2
  exit 1
}
# As `demand_ours`, before an agent is started anew: where systemd runs, it starts its own beside
# one that was started by hand.
demand_startable() {
  if [ -d /run/systemd/system ] && [ "$answers" != "$main" ]; then
    [ -z "$answers" ] || refuse_others
  else demand_ours; fi
}
