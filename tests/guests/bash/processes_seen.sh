# ps, pgrep, kill by name of one's own: what /proc shows of a family.
sleep 987 & a=$!; sh -c 'sleep 654 & wait' & b=$!; sleep 0.2
ps -o comm=,args= -p $a; ps -o stat= -p $a | cut -c1; ps --ppid $b -o args=; ps -o ppid= -p $a | grep -c "$$"
pgrep -P $$ -x sleep | wc -l; pkill -P $b; wait $b; kill $a; wait $a 2>/dev/null; echo $?
ps -p $a >/dev/null || echo gone; ps -o pid= -p $$ | grep -c .; cat /proc/$$/comm; tr '\0' ' ' </proc/self/cmdline; echo
ps -o nlwp=,ni=,cls= -p $$ | tr -s ' '; test "$(readlink /proc/$$/cwd)" = "$PWD" && echo cwd; free >/dev/null && echo free; uptime >/dev/null && echo uptime
