# A sieve in the shell.
n=2; while [ $n -lt 60 ]; do p=1; d=2; while [ $((d * d)) -le $n ]; do [ $((n % d)) = 0 ] && { p=0; break; }; d=$((d + 1)); done; [ $p = 1 ] && printf '%d ' $n; n=$((n + 1)); done; echo
