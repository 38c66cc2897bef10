# for, while, until, break, continue, nested.
for i in 1 2 3 4 5; do
    [ $i = 2 ] && continue
    [ $i = 5 ] && break
    echo $i
done
i=0
while [ $i -lt 3 ]; do i=$((i + 1)); echo "while $i"; done
until [ $i -eq 0 ]; do i=$((i - 1)); echo "until $i"; done
for a in x y; do for b in 1 2; do echo $a$b; [ $b = 1 ] && continue 2; done; done
for f in; do echo never; done
set -- p q; for f; do echo $f; done
