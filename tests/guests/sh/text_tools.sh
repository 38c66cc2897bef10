# cut, paste, tr, uniq, sort, comm, join, nl, fold, rev, tac.
printf 'b 2\na 1\nc 3\na 1\n' >t
sort t; sort -u t; sort -k2 -r t; sort t | uniq -c | tr -s ' '; cut -d' ' -f2 t
printf '1\n2\n' | paste -d, - - ; printf 'a\nb\n' >x; printf 'b\nc\n' >y; comm x y
tr -d a <t; tr -s 'a-c' '[x*]' <t; head -c 5 t; echo; tail -n +3 t
fold -w 5 <<END
abcdefghijkl
END
tac t; rev x; nl x; expand x; wc t
