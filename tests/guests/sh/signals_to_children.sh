# Signals to children and groups of them.
sh -c 'trap "echo caught; exit 5" TERM; echo ready >r; while :; do sleep 0.02; done' & p=$!
while [ ! -e r ]; do sleep 0.02; done; kill -TERM $p; wait $p; echo $?
sleep 100 & p=$!; kill -STOP $p; kill -CONT $p; kill -9 $p; wait $p 2>/dev/null; echo $?
sleep 100 & a=$!; sleep 100 & b=$!; kill $a $b; wait $a 2>/dev/null; echo $?; wait $b 2>/dev/null; echo $?
kill -0 $$ && echo alive; kill -0 999999 2>/dev/null || echo "nobody $?"
timeout 0.1 sleep 10; echo $?; timeout 10 true; echo $?; timeout -s KILL 0.1 sleep 10 2>/dev/null; echo $?
