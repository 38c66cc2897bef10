# Background jobs and wait: statuses, order, several at once.
sh -c 'exit 3' & p=$!; wait $p; echo $?
(exit 4) & a=$!
(exit 5) & b=$!
wait $b; echo $?
wait $a; echo $?
for i in 1 2 3 4; do (echo $i >out.$i) & done
wait
cat out.1 out.2 out.3 out.4
{ sleep 0.05; echo late; } & echo early; wait
wait 2>/dev/null; echo $?
sleep 10 & kill $!; wait $! 2>/dev/null; echo "killed $?"
(sleep 0.02; exit 9) & wait $!; echo $?
