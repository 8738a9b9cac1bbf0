# shellcheck shell=sh disable=SC2154 # the variables stand above, the programs below

say() {
    printf '%s\n' "$1" >&2
}

fail() {
    say "vault: $1"
    [ -z "${2-}" ] || say "hint: $2"
    exit 1
}

by_package="install the package of vault for this host, then run here: $ask"

# Tells whether a program runs here and is as new as ours: the last word is its version.
is_new() {
    is_ours "$1" vault-agent || return 1
    theirs=${said##* } ours=${2##* }
    newest=$(printf '%s\n' "${theirs#v}" "${ours#v}" | sort -t. -k1,1n -k2,2n -k3,3n | tail -n1)
    [ "${theirs#v}" = "$newest" ]
}

# Unpacks a program and proves that it is whole and runs here.
unpack() {
    "carry_$2" >"$work/$1" || fail "no room for $1 in $bin" "make room there, then run this again"
    [ "$(hash "$work/$1")" = "$4" ] || fail "$1 has changed on the way" "run the same line again"
    chmod 755 "$work/$1"
    ran=$("$work/$1" --version 2>&1) ||
        fail "$1 does not run from $bin: $ran" "is it mounted noexec? else $by_package"
    [ "${ran%%
*}" = "$3" ] || fail "$1 says that it is $ran, not $3" "run the same line again"
}

# Prints what this host is, as the programs name theirs.
system_here() {
    arch=$(uname -m)
    case $arch in
        amd64) arch=x86_64 ;;
        arm64) arch=aarch64 ;;
        armv[678]l) arch=arm ;;
        i[3456]86) arch=x86 ;;
    esac
    printf '%s %s\n' "$(uname -s)" "$arch"
}

invite() {
    set -eu
    here=$(system_here)
    [ "$here" = "$system" ] ||
        fail "this host is $here, the programs are for $system" "$by_package"
    for tool in base64 sha256sum sort ssh; do
        command -v "$tool" >/dev/null || fail "there is no $tool here" "$by_package"
    done
    if [ "$(id -u)" = 0 ]; then bin=/usr/local/bin; else bin=${HOME:?}/.local/bin; fi
    agent=$(command -v vault-agent) || agent=$bin/vault-agent
    if is_new "$agent" "$agent_version"; then
        say "$agent is here already"
    else
        agent=$bin/vault-agent
        others=$(in_the_way "$bin")
        [ -z "$others" ] ||
            fail "$others is another program than ours, and stays" "move it away, or $by_package"
        (umask 022 && mkdir -p "$bin") || fail "$bin cannot be made"
        # One name, so that a run that was killed leaves no more than the next one takes away.
        work=$bin/.vault-invite
        (rm -rf "$work" && mkdir -m 700 "$work") || fail "nothing can be written to $bin"
        trap 'rm -rf "$work"' EXIT
        trap 'exit 1' HUP INT TERM
        unpack vault-agent vault_agent "$agent_version" "$agent_sum"
        unpack vault vault "$vault_version" "$vault_sum"
        note "$vault_sum" "$bin/vault" "$agent_sum" "$agent"
        mv -f "$work/vault" "$bin/vault"
        mv -f "$work/vault-agent" "$agent"
        say "installed: $bin/vault, $agent"
        case ":$PATH:" in *":$bin:"*) ;; *) say "note: $bin is not in PATH" ;; esac
    fi
    made=$("$agent" init --name "$name" --of "$vault") || exit
    line=$(printf '%s\n' "$made" | grep '^VLTM1-')
    if [ -n "$via" ] && (: </dev/tty) 2>/dev/null; then
        say "$(printf '%s\n' "$made" | grep '^words: ')"
        ssh -t "$via" "$add $line $grants" </dev/tty ||
            fail "$via has not added this host" "run the same line again"
        "$agent" join "$pin"
    else
        say "type this on this host, HOST being what ssh calls the one with the admin key:"
        printf '  ssh -t HOST %s %s %s && %s join %s\n' \
            "$add_typed" "$line" "$grants_typed" "$agent" "$pin"
    fi
}

