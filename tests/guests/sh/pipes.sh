# Pipelines of two to eight commands, and the status of the last.
echo hello world | tr a-z A-Z
printf 'b\na\nc\n' | sort | head -n 2 | tail -n 1
seq 1 1000 | grep 7 | wc -l
echo x | cat | cat | cat | cat | cat | cat | cat
true | false; echo "status $?"
false | true; echo "status $?"
yes | head -n 3
seq 1 20000 | sort -rn | sed -n '1p;$p'
{ echo one; echo two; } | while read -r line; do echo "got $line"; done
! true | false; echo "negated $?"
