# Ends agents that run as processes where systemd does not run.
if [ ! -d /run/systemd/system ]; then
  for pid in $(agents); do finish "$pid"; done
  rm -f "$state/agent.pid" "$state/agent.log" "$state/agent.log.old"
fi
