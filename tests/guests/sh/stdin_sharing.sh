# Several readers of one input, in turn.
printf 'a\nb\nc\nd\n' >f
{ read -r x; echo "first $x"; head -n 1 >/dev/null; cat; } <f | head -n 1
(read -r x; echo $x; read -r x; echo $x) <f
exec <f; read -r l; echo $l; cat | tail -n 1
