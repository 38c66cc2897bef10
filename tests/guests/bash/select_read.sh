# read with timeouts, numbers of characters, file descriptors in variables.
read -r -t 0.05 x < <(sleep 1); echo "timed out $(($? > 128))"
read -r -n 3 x <<<abcdef; echo $x; read -r -d : x <<<a:b; echo $x
exec {fd}<<<$'l1\nl2'; read -r -u $fd a; read -r -u $fd b; echo "$a $b"; exec {fd}<&-
echo $((fd >= 10)); printf '%(%Y)T\n' 0
