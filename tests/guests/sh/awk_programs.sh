# awk.
printf 'alice 30\nbob 25\ncarol 35\n' >p
awk '{ s += $2 } END { print s, s / NR }' p; awk '$2 > 26 { print $1 }' p
awk 'BEGIN { for (i = 0; i < 5; i++) printf "%d ", i * i; print "" }'
awk '{ a[NR] = $1 } END { for (i = NR; i > 0; i--) print a[i] }' p
awk -F: 'NR == 1 { print NF }' /etc/passwd
awk 'BEGIN { print length("hello"), substr("hello", 2, 3), index("hello", "l"), toupper("x") }'
awk '{ gsub(/o/, "0"); print }' p; awk 'function f(n) { return n < 2 ? n : f(n-1) + f(n-2) } BEGIN { print f(18) }'
awk 'BEGIN { while (("echo a; echo b" | getline l) > 0) print "got", l }'
awk 'BEGIN { print 1e6, 3.0, 1/3; printf "%.3f %5s|%-5s|\n", 3.14159, "r", "l" }'
