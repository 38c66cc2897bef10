# Job control in a script: groups of their own, fg, bg, suspended jobs.
set -m
sleep 100 & [ "$(ps -o pgid= -p $! | tr -d ' ')" = "$!" ] && echo "own group"
kill -STOP %1; sleep 0.1; jobs | sed 's/ *sleep/ sleep/'
kill -CONT %1; kill %1; wait %1 2>/dev/null; echo $?
(exit 3) & wait -n; echo $?
sh -c 'exit 4' & fg %% >/dev/null 2>&1; echo $?
