# Says whether anything is in the way of taking the agent away; nothing is changed.
"$agent" "$@" --check </dev/null
demand_ours
