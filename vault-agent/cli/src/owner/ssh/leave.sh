# Says whether anything is in the way of taking the agent away; nothing is changed.
answers=$("$agent" "$@" --check </dev/null)
case $answers in
  '' | *[!0-9]* | "$main") ;;
  *) runs "$answers" || {
    echo "an agent runs here that somebody else has started: process $answers" >&2
    echo "hint: end it, then run the same command again" >&2
    exit 1
  } ;;
esac
