# read: splitting, backslashes, end of file.
printf 'a b c\nd\\e f\nlast' >f
while read -r x y; do echo "[$x][$y]"; done <f
read x <f; echo $x
printf 'one\\\ntwo\n' | { read l; echo "$l"; }
printf 'a:b:c\n' | { IFS=: read -r p q; echo "$p $q"; }
read z </dev/null; echo "eof $?"
printf '%s\n' 1 2 3 | { read a; read b; read c; read d; echo "$a$b$c$d $?"; }
