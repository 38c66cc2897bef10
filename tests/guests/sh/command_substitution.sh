# $( ) and backquotes: nested, trailing newlines, status.
echo "$(echo $(echo nested))"
echo `echo back \`echo quotes\``
x=$(printf 'a\n\n\n'); echo "[$x]"
x=$(false); echo $?
x=$(exit 7); echo $?
echo "$(seq 1 3)"
echo $(seq 1 3)
f() { echo "from f $1"; return 3; }
y=$(f arg); echo "$? $y"
echo "$(cat <<END
inside
END
)"
z=$(head -c 100000 /dev/zero | tr '\0' z); echo ${#z}
