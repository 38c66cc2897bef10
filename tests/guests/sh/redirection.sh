# Redirections of all kinds.
echo one >f; echo two >>f; cat f
cat <f >g; cat g
{ echo out; echo err >&2; } >o 2>e; cat o; cat e
{ echo out; echo err >&2; } >both 2>&1; cat both
exec 3>third; echo to three >&3; exec 3>&-; cat third
exec 4<f; read -r a <&4; read -r b <&4; echo "$a $b"; exec 4<&-
echo swapped 3>&1 1>&2 2>&3 | tr a-z A-Z 2>/dev/null
: >empty; wc -c <empty
set -C; echo x >f 2>/dev/null || echo "noclobber"; echo y >|f; cat f; set +C
echo gone >&- 2>/dev/null || echo "closed $?"
cat <missing 2>/dev/null || echo "missing $?"
exec 5<>rw; echo data >&5; exec 5<&-; cat rw
