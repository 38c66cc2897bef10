# Exit statuses of all kinds.
true; echo $?
nonexistent-command 2>/dev/null; echo $?
: >notexec; ./notexec 2>/dev/null; echo $?
/ 2>/dev/null; echo $?
sh -c 'kill -KILL $$'; echo $?
sh -c 'kill -TERM $$'; echo $?
(exit 255); echo $?
if false; then echo; fi; echo $?
false || echo or; true && echo and
[ 1 = 2 ]; echo $?; [ 1 = 1 ]; echo $?
exit 77
