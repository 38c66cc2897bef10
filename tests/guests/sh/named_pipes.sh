# FIFOs between jobs.
mkfifo p q
(echo through p >p) & cat p; wait
(while read -r l; do echo "echoed $l"; done <p >q) &
exec 8>p 9<q; echo a >&8; read -r x <&9; echo "$x"; echo b >&8; read -r x <&9; echo "$x"; exec 8>&- 9<&-; wait
[ -p p ] && echo a pipe; rm p q; ls
