# trap: EXIT, signals, resetting, in subshells.
trap 'echo bye' EXIT
trap 'echo usr1' USR1
kill -USR1 $$
echo after
trap '' USR1
kill -USR1 $$
echo ignored
trap - USR1

trap 'echo term; exit 3' TERM
(trap 'echo subshell exit' EXIT; echo in subshell)
kill -TERM $$
echo never
