# Has the agent keep a file right, and prints whether that changed anything, and all its targets.
before=$("$agent" target list --json </dev/null)
"$agent" target add "$@" </dev/null >&2
after=$("$agent" target list --json </dev/null)
if [ "$before" = "$after" ]; then echo vault-same; else echo vault-changed; fi
printf '%s\n' "$after"
