# Process substitution, here-strings, coprocesses.
diff <(seq 1 5) <(seq 2 6)
paste <(echo a) <(echo b); cat <<<"here string"; read -r x y <<<"p q"; echo "$y $x"
echo out > >(tr a-z A-Z); sleep 0.1
coproc { while read -r l; do echo "co $l"; done; }
echo hello >&"${COPROC[1]}"; read -r r <&"${COPROC[0]}"; echo "$r"; exec {COPROC[1]}>&-; wait "$COPROC_PID"; echo $?
