# Quoting.
echo 'single $x `y`' "double \$x \`y\` \"q\"" plain\ space "a'b" 'a"b' a\
b
x='a  b'; echo $x; echo "$x"; echo "${x}c" '' "" ; printf '[%s]' "" '' a; echo
echo "multi
line"; echo $'x' | cat >/dev/null; echo \\ '\\' "\\"
