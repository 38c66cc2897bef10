# sed.
seq 1 10 >n
sed -n '3,5p' n; sed '2,9d' n; sed 's/1/one/' n | head -n 1; sed -n '$=' n
sed -e '/5/a\' -e after n | sed -n '5,6p'; sed 'y/123/abc/' n | head -n 3
echo 'hello world' | sed 's/\(hello\) \(world\)/\2 \1/; s/o/0/g'
sed -n '/3/,/6/{s/^/> /;p}' n; sed '1!G;h;$!d' n | head -n 2
cp n m; sed -i 's/10/ten/' m; tail -n 1 m
sed 's/[0-9]*/(&)/' n | tail -n 1
