# Has the agent run, from now on and after a restart where systemd runs. `role` is `host` or `user`,
# `agent` its program. `how` is `once`, `anew` if one that runs has to start anew, or `again` if it
# has to with the unit that it has, if that is of this state.
unit() {
  [ "$how" = again ] &&
    systemctl "$@" cat vault-agent 2>/dev/null </dev/null | grep -qF -- "${VAULT_STATE_DIR:-ExecStart=}"
}
if [ -d /run/systemd/system ] && [ "$role" = user ]; then
  me=$(id -un)
  if [ "$how" = again ] || [ -e "/var/lib/systemd/linger/$me" ]; then :
  elif loginctl --no-ask-password enable-linger 2>/dev/null </dev/null ||
    sudo -n loginctl enable-linger "$me" 2>/dev/null </dev/null
  then
    # What was not there before goes again with the agent.
    (umask 077 && : >"${state%/}.linger")
  else echo vault-linger=no; fi
  XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}
  export XDG_RUNTIME_DIR
  n=0
  until [ -S "$XDG_RUNTIME_DIR/systemd/private" ] || [ "$n" -ge 10 ]; do sleep 1; n=$((n + 1)); done
  unit --user || "$agent" install --user </dev/null
  [ "$how" = once ] || systemctl --user restart vault-agent </dev/null
elif [ -d /run/systemd/system ]; then
  unit || "$agent" install </dev/null
  [ "$how" = once ] || systemctl restart vault-agent </dev/null
else
  umask 077
  running=$(agents)
  if [ "$how" != once ]; then
    for pid in $running; do finish "$pid"; done
    running=
  fi
  if [ -z "$running" ]; then
    [ ! -e "$state/agent.log" ] || mv -f "$state/agent.log" "$state/agent.log.old"
    start=nohup
    ! command -v setsid >/dev/null || start=setsid
    "$start" "$agent" run </dev/null >"$state/agent.log" 2>&1 &
    pid=$!
    echo "$pid" >"$state/agent.pid"
    n=0
    # A killed one has left its socket.
    until [ "$state/agent.sock" -nt "$state/agent.pid" ] || [ -S /run/vault-agent/agent.sock ] ||
      [ -S "${XDG_RUNTIME_DIR:-/nowhere}/vault-agent/agent.sock" ] || [ "$n" -ge 10 ]; do
      sleep 1
      n=$((n + 1))
    done
  fi
  echo vault-start=process
fi
