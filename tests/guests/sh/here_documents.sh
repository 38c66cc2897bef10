# Here-documents: expanded, quoted, stripped of tabs, nested, long.
name=world
cat <<END
hello $name $(echo substituted) $((1 + 2))
END
cat <<'END'
literal $name $(echo not)
END
cat <<-END
	stripped of its tab
	END
cat <<A; cat <<B
first
A
second
B
while read -r x y; do echo "$y $x"; done <<END
a b
c d
END
big=$(seq 1 5000)
wc -l <<END
$big
END
