# A trap runs between commands while the shell waits for one.
trap 'n=$((n + 1))' USR1
n=0
for i in 1 2 3 4 5; do (kill -USR1 $$); true; done
echo $n
trap 'echo interrupted wait' USR2
(sleep 0.05; kill -USR2 $$) &
sleep 5 & s=$!
wait $s
[ $? -gt 128 ] && echo "wait was interrupted"
kill $s
wait $s 2>/dev/null
echo end
