# wait for a particular one of several.
(sleep 0.06; exit 1) & a=$!; (sleep 0.03; exit 2) & b=$!; exit_of() { wait $1; echo $?; }
exit_of $b; exit_of $a; wait; echo all $?
