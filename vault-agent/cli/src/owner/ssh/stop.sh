# Ends agents that run as processes, and not by systemd.
for pid in $(agents); do finish "$pid"; done
if [ ! -d /run/systemd/system ]; then
  rm -f "$state/agent.pid" "$state/agent.log" "$state/agent.log.old"
fi
