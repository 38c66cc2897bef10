# eval, exec, dot, unset, export, alias-free environment.
cmd='echo evaluated'; eval $cmd; eval "x=5; echo \$x"
echo 'sourced=yes; echo in sourced $1' >lib.sh; . ./lib.sh; echo $sourced
export E=exported; sh -c 'echo $E'; F=once sh -c 'echo $F'; echo "[$F]"
unset E; sh -c 'echo "[$E]"'
(exec sh -c 'echo executed; exit 4'); echo $?
env -i A=1 /bin/sh -c 'echo $A'
exec >log; echo to the log; exec >&2; cat log >&2
