#!/bin/sh
# Usage: run.sh PROGRAM. Compares what the program writes with what it should.
set -e
wrap=$1
check() {
	got=$(printf '%b' "$2" | "$wrap" "$1")
	want=$(printf '%b' "$3")
	[ "$got" = "$want" ] || { echo "FAIL: width $1: got '$got', want '$want'"; exit 1; }
	echo "ok: width $1"
}
check 10 'the quick brown fox' 'the quick\nbrown fox'
check 3 'a b c d' 'a b\nc d'
check 1 'longer words stay' 'longer\nwords\nstay'
check 72 '  spaces \n and\tlines ' 'spaces and lines'
