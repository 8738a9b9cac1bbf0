# Ends an agent that runs as a process where systemd does not run.
runs() { [ -r "/proc/$pid/cmdline" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q 'agent run '; }
if [ ! -d /run/systemd/system ] && [ -r "$state/agent.pid" ]; then
  read -r pid <"$state/agent.pid" || :
  if runs; then
    kill "$pid"
    n=0
    while runs && [ "$n" -lt 30 ]; do sleep 1; n=$((n + 1)); done
  fi
  rm -f "$state/agent.pid" "$state/agent.log" "$state/agent.log.old"
fi
