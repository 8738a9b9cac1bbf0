#!/bin/sh
# Reads every secret out of a copy of a vault with its recovery kit, and without any of its
# programs: age, sqlite3, sed and coreutils do it.
#
#   sh break-glass.sh [--all-versions] DATABASE KIT FOLDER
#
# DATABASE is vault.db of the server, a file of `vault-server backup`, or agent.db of a host; it is
# copied, and not changed. KIT is the page as a file, or - to type it. FOLDER is made: each secret
# is a file in it, at its path; with --all-versions at the version and the path. A secret that is a
# folder of others as well is the file " value" in there, with a space: no path has such a name.
#
# Exits with 0 if all of them opened, with 1 if not, and with 2 if nothing was tried.
set -euf
umask 077
# shellcheck disable=SC3045
ulimit -c 0
export LC_ALL=C

prefix=AGE-SECRET-KEY-1 alphabet=QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L
work='' out='' all='' opened=0 failed=0

say() { printf 'break-glass: %s\n' "$1" >&2; }
die() {
  say "$1"
  exit 2
}

clean() {
  [ -n "$out" ] || return 0
  [ ! -e "$work/payload" ] || shred -n 1 -u "$work/payload" || :
  rm -rf "$work"
  rmdir "$out" 2>/dev/null || : # it stays if there is something in it
}
trap clean EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# check_of ROW TEXT: prints what stands behind a row of the kit.
check_of() {
  sum=$({ printf "%s\\000\\$(printf %03o "$1")" "$prefix" && printf %s "$2"; } | sha256sum)
  tail=${sum#????}
  for byte in "${sum%"${sum#??}"}" "${sum%"$tail"}"; do
    printf %s "$alphabet" | cut -c "$((0x$byte % 32 + 1))"
  done | tr -d '\n'
}

# key_of_kit: prints the line AGE-SECRET-KEY-1… of the page on standard input, be it a text or what
# browsers print; its groups may stand in numbered rows.
key_of_kit() {
  sed 's/<[^>]*>//g' | tr 'a-z\t\r#' 'A-Z   ' | key_of_text
}

key_of_text() {
  key='' rows=''
  while read -r line || [ -n "$line" ]; do
    # shellcheck disable=SC2086
    set -- $line
    case ${1-} in
      "$prefix"?*) key=$1 rows='' ;;
      "$prefix") key=$1 rows=0 ;;
      [0-9]*) [ -z "$rows" ] || add_row "$@" ;;
      ?*) rows='' ;;
    esac
  done
  [ -n "$key" ] || die "the kit has no line $prefix…"
  printf %s "$key"
}

# add_row NUMBER GROUP… [(CHECK)]: adds a row to the key.
add_row() {
  number=${1%%[!0-9]*} text=${1#"${1%%[!0-9]*}"} check=''
  shift
  for word; do
    case $word in
      '('*')') check=$word ;;
      *) text=$text$word ;;
    esac
  done
  text=$(printf %s "$text" | tr -cd A-Z0-9)
  rows=$((rows + 1))
  [ "$number" = "$rows" ] || die "row $rows of $prefix… is missing"
  [ -z "$check" ] || [ "$check" = "($(check_of "$rows" "$text"))" ] ||
    die "row $rows of $prefix… was mistyped"
  key=$key$text
}

sql() { sqlite3 -batch -init /dev/null -noheader -list copy.db "$1"; }

# not REASON: says why a secret was not read.
not() {
  echo "$1" >why
  return 1
}

# open_one HASH VERSION PATH: writes one version of a secret; its path comes in JSON's quotes.
open_one() {
  path=${3#\"}
  path=$(printf %s "${path%\"}" | sed 's/\\\(["\\]\)/\1/g')
  case /$path/ in *//* | */./* | */../*) not "no path may look like that" || return 1 ;; esac
  sql "SELECT writefile('blob', bytes) FROM blob WHERE hash = x'$1'" >why 2>&1 || return 1
  printf '%s\n' "$key" | age -d -i - blob >payload 2>why || return 1

  # A payload is a line, the header's length in four bytes, the header, 32 bytes, and the content.
  # shellcheck disable=SC2046
  set -- "$@" $(od -An -v -tu1 -j17 -N4 payload)
  [ $# = 7 ] && [ "$(head -c 16 payload | tr -d '\0')" = vault-payload/v1 ] ||
    not "it holds no secret" || return 1
  length=$(((($4 * 256 + $5) * 256 + $6) * 256 + $7))
  header=$(tail -c +22 payload | head -c "$length" | tr -d '\0')
  case $header in
    '{"vault":"'*'","path":'"$3"',"ver":'"$2"',"kind":"'*'","len":'*'}') ;;
    *) not "it holds another secret or version" || return 1 ;;
  esac
  size=${header##*:}
  size=${size%\}}
  case $size in '' | *[!0-9]* | ????????*) not "it holds no secret" || return 1 ;; esac
  tail -c "+$((22 + length + 32))" payload | head -c "$size" >content 2>why || return 1
  [ "$(wc -c <content)" -eq "$size" ] || not "it is cut" || return 1

  file=$out/${all:+$2/}$path
  [ ! -d "$file" ] || file="$file/ value"
  [ ! -e "$file" ] || not "there is such a file already" || return 1
  mkdir -p "${file%/*}" 2>why && mv -T content "$file" 2>why
}

if [ "${1-}" = --all-versions ]; then
  all=1
  shift
fi
[ $# = 3 ] || die "usage: sh break-glass.sh [--all-versions] DATABASE KIT FOLDER"
for program in age sqlite3; do
  command -v "$program" >/dev/null || die "there is no $program here: install it"
done
[ -f "$1" ] || die "there is no file $1"

if [ "$2" = - ]; then
  [ ! -t 0 ] || say "type $prefix and its rows, as they stand on the page; Ctrl-D ends"
  key=$(key_of_kit)
else
  [ -r "$2" ] || die "cannot read the kit $2"
  key=$(key_of_kit <"$2")
fi
printf '%s\n' "$key" | age-keygen -y >/dev/null 2>&1 || die "the line $prefix… was cut or mistyped"

mkdir -- "$3" || die "the folder has to be a new one"
out=$(cd -- "$3" && pwd)
work=$(mktemp -d "$out.XXXXXX") || die "cannot make a folder beside $3"
cp -- "$1" "$work/copy.db" || die "cannot copy $1"
[ ! -e "$1-wal" ] || cp -- "$1-wal" "$work/copy.db-wal" || die "cannot copy $1-wal"
cd "$work"

# A server keeps replaced blobs for some days; a host has one of each path.
column=$(sql "SELECT name FROM pragma_table_info('blob') WHERE name = 'replaced_at'") ||
  die "$1 is no database of a vault"
kept="path IS NOT NULL${column:+ AND $column IS NULL}"
# A path with control characters could steer the terminal.
steers="path GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'"
row="lower(hex(hash)) || ' ' || ver || ' ' || iif($steers, '\"\"', json_quote(path))"
# What lies deeper comes first, so that it is known which secrets are folders as well.
if [ -n "$all" ]; then
  select="SELECT $row FROM blob WHERE $kept ORDER BY ver, path DESC"
else
  newest="SELECT hash, max(ver) AS ver, path FROM blob WHERE $kept GROUP BY path"
  select="SELECT $row FROM ($newest) ORDER BY path DESC"
fi
if ! sql "$select" >rows; then
  say "the database is damaged: not all of it was found"
  failed=1
fi
while read -r hash version quoted; do
  if open_one "$hash" "$version" "$quoted"; then
    opened=$((opened + 1))
  else
    say "version $version of $quoted, blob $hash: $(head -n 1 why)"
    failed=$((failed + 1))
  fi
done <rows
sync -f "$out"
say "$opened read, $failed not"
[ "$failed" = 0 ] && [ "$opened" != 0 ]
