# How an agent stands on a host: what of it is there, and which machine it is. Nothing is changed.
# `role` is `host` or `user`.
if [ "$role" = user ]; then unit=${XDG_CONFIG_HOME:-${HOME:-}/.config}/systemd/user
else unit=/etc/systemd/system; fi
if head -n 1 "$unit/vault-agent.service" 2>/dev/null | grep -q '^# Written by .vault-agent install'
then echo unit; fi
if [ -n "$(ls -A "$state" 2>/dev/null)" ]; then echo state; fi
if [ -n "$(ls -A "$state/identity" 2>/dev/null)" ]; then echo keys; fi
if [ -e "$state/identity/sign.key.sealed" ]; then echo sealed; fi
# Other keys that are made, or have taken over without an agent that runs with them.
if [ -e "$state/rekey/identity/sign.key" ] || [ -e "$state/identity/rekeyed.json" ]
then echo rekey; fi
# What is beside the state goes last, so that a cut may leave it alone.
if [ -e "$sent" ] || [ -e "${state%/}.linger" ]; then echo beside; fi
if [ -e "$state/pins.json" ]; then
  printf pins=
  tr -d '\n\r' <"$state/pins.json"
  echo
fi
echo vault-standing-end
