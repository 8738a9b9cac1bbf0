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

# say TEXT: tells it on one line, without what could steer the terminal.
say() {
  printf 'break-glass: %s' "$1" | tr -d '[:cntrl:]' >&2
  echo >&2
}
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

# sql QUERY: asks the copy. Nothing in the database may run a command or touch another file.
sql() {
  sqlite3 -safe -batch -init /dev/null -cmd 'PRAGMA trusted_schema = OFF' \
    -noheader -list copy.db "$1" 2>why
}

# not REASON: says why a secret was not read.
not() {
  echo "$1" >why
  return 1
}

# reason: prints what a program has said, which may quote the database.
reason() { head -n 1 why | tr -cd ' -~' | head -c 200; }

# check_row HASH VERSION PATH: checks that they are nothing but a hash, a number and JSON's text.
check_row() {
  case $1 in *[!0-9a-f]*) false ;; *) [ ${#1} = 64 ] ;; esac ||
    not "it has no hash" || return 1
  case $2 in '' | 0* | *[!0-9]*) false ;; *) [ ${#2} -le 19 ] ;; esac ||
    not "it has no version" || return 1
  path=$(printf %s "$3" | sed 's/^"\(.*\)"$/\1/; s/\\\(["\\]\)/\1/g')
  [ "\"$(printf %s "$path" | sed 's/["\\]/\\&/g')\"" = "$3" ] ||
    not "it has no path" || return 1
  case /$path/ in
    *//* | */./* | */../* | *'/ '* | *' /'* | *[[:cntrl:]]*) not "no path may look like that" ;;
  esac
}

# open_one HASH VERSION PATH: writes one version of a secret; its path comes in JSON's quotes.
open_one() {
  check_row "$@" || return 1
  small="typeof(bytes) = 'blob' AND length(bytes) <= 1048576"
  sql "SELECT hex(bytes) FROM blob WHERE hash = x'$1' AND $small LIMIT 1" >hex || return 1
  [ -s hex ] || not "its bytes are none, or too many" || return 1
  basenc -d --base16 hex >blob 2>why || return 1
  printf '%s\n' "$key" | age -d -i - blob >payload 2>why || return 1

  # A payload is a line, the header's length in four bytes, the header, 32 bytes, and the content.
  # shellcheck disable=SC2046
  set -- "$@" $(tail -c +18 payload | od -An -v -tu1 -N4)
  [ $# = 7 ] && [ "$(head -c 16 payload | tr -d '\0')" = vault-payload/v1 ] ||
    not "it holds no secret" || return 1
  length=$(((($4 * 256 + $5) * 256 + $6) * 256 + $7))
  [ "$length" -le 4096 ] || not "it holds no secret" || return 1
  header=$(tail -c +22 payload | head -c "$length" | tr '\0\n' '??')
  vault=${header#*:\"} kind=${header##*:\"} size=${header##*:}
  vault=${vault%%\"*} kind=${kind%%\"*} size=${size%\}}
  place="\"path\":$3,\"ver\":$2"
  [ "$header" = "{\"vault\":\"$vault\",$place,\"kind\":\"$kind\",\"len\":$size}" ] ||
    not "it holds another secret or version" || return 1
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
out=$(readlink -f -- "$3")
work=$(mktemp -d "$out.XXXXXX") || die "cannot make a folder beside $3"
cp -- "$1" "$work/copy.db" || die "cannot copy $1"
log=$(readlink -f -- "$1")-wal # it lies beside the file itself, not beside a link to it
[ ! -e "$log" ] || { [ -f "$log" ] && cp -- "$log" "$work/copy.db-wal"; } || die "cannot copy $log"
cd "$work"

# A vault has plain tables: no view, trigger, virtual table or generated column, which compute.
odd=$(sql "SELECT count(*) FROM sqlite_master
  WHERE (type = 'index' OR sql LIKE 'CREATE TABLE %') IS NOT TRUE") ||
  die "$1 is no database of a vault: $(reason)"
[ "$odd" = 0 ] || die "$1 is no database of a vault: not all of it is plain tables"
columns=$(sql "SELECT group_concat(iif(hidden, '?', name), ' ') FROM (
  SELECT name, hidden FROM pragma_table_xinfo('blob')
  WHERE hidden OR name IN ('bytes', 'hash', 'path', 'replaced_at', 'ver') ORDER BY name)") ||
  die "$1 is no database of a vault: $(reason)"
# A server keeps replaced blobs for some days; a host has one of each path.
case $columns in
  'bytes hash path ver') kept='path IS NOT NULL' ;;
  'bytes hash path replaced_at ver') kept='path IS NOT NULL AND replaced_at IS NULL' ;;
  *) die "$1 is no database of a vault: it has no table of blobs" ;;
esac

# A column may hold anything, of any type and size: a row shows only what a vault could have put
# there, and what neither steers the terminal nor turns around what is read.
digest="iif(typeof(hash) = 'blob' AND length(hash) = 32, lower(hex(hash)), '-')"
number="iif(typeof(ver) = 'integer', ver, 0)"
steers="char(1,45,31, 127,45,159, 8203,45,8207, 8232,45,8238, 8288,45,8303)"
short="length(CAST(path AS BLOB)) <= 1024 AND instr(CAST(path AS BLOB), x'00') = 0"
shown="typeof(path) = 'text' AND $short AND path NOT GLOB '*[' || $steers || ']*'"
row="$digest || ' ' || $number || ' ' || iif($shown, json_quote(path), '\"\"')"
# What lies deeper comes first, so that it is known which secrets are folders as well.
if [ -n "$all" ]; then
  select="SELECT $row FROM blob WHERE $kept ORDER BY ver, path DESC"
else
  newest="SELECT hash, max($number) AS ver, path FROM blob WHERE $kept GROUP BY path"
  select="SELECT $row FROM ($newest) ORDER BY path DESC"
fi
if ! sql "$select" >rows; then
  say "the database is damaged, not all of it was found: $(reason)"
  failed=1
fi
while read -r hash version quoted; do
  if open_one "$hash" "$version" "$quoted"; then
    opened=$((opened + 1))
  else
    say "version $version of $quoted, blob $hash: $(reason)"
    failed=$((failed + 1))
  fi
done <rows
sync -f "$out"
say "$opened read, $failed not"
[ "$failed" = 0 ] && [ "$opened" != 0 ]
