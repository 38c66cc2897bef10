# set -e ends the shell where it must and only there.
set -e
false || true
if false; then :; fi
! true
false && true
echo survived
(false; echo never) || echo "or $?"
f() { false; echo in a tested function; }
f || true
trap 'echo exit $?' EXIT
false
echo never
