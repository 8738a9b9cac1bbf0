# The state of an agent on another host, and which programs there are ours: other people's `vault`,
# as HashiCorp's, stays theirs.
state=${VAULT_STATE_DIR:-}
if [ -n "$state" ]; then :
elif [ "$(id -u)" = 0 ]; then state=/var/lib/vault-agent
else state=${XDG_STATE_HOME:-${HOME:-}/.local/state}/vault-agent; fi
sent=${state%/}.sent

# Prints the SHA-256 of a file.
hash() {
  if command -v sha256sum >/dev/null; then sha256sum <"$1" | cut -c 1-64
  elif command -v openssl >/dev/null; then openssl dgst -sha256 -r <"$1" | cut -c 1-64
  else echo 'no sha256sum'; fi
}
# Tells whether file `$1` is our program `$2`, which says its name and its version, on one line.
is_ours() {
  said=$("$1" --version 2>/dev/null </dev/null) || return 1
  case $said in
    *'
'*) return 1 ;;
    "$2 "[0-9]*.[0-9]*.[0-9]*) ;;
    *) return 1 ;;
  esac
}
# Prints the first of our two programs whose place in folder `$1` is another's.
in_the_way() {
  for program in vault vault-agent; do
    file=$1/$program
    [ -e "$file" ] || [ -h "$file" ] || continue
    is_ours "$file" "$program" || { echo "$file"; return 0; }
  done
}
# Notes what is about to be there, as pairs of hash and file: only what was sent is removed again.
note() {
  (
    umask 077
    mkdir -p "$(dirname "$sent")"
    printf '%s  %s\n' "$@" >"$sent.new"
    mv -f "$sent.new" "$sent"
  )
}
