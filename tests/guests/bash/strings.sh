# Substrings, case, replacement, regular expressions, printf -v.
s='Hello, World'; echo "${s:7:5} ${s: -5} ${s^^} ${s,,} ${s//o/0} ${s/#Hello/Bye}"
[[ $s =~ ^([A-Z][a-z]+),\ (.*)$ ]] && echo "${BASH_REMATCH[2]} ${BASH_REMATCH[1]}"
printf -v v '%05d' 42; echo $v; [[ abc < abd ]] && echo less; [[ $s == *World ]] && echo glob
echo {1..5} {a..e..2} x{1,2}y; (( i = 5 ** 3 )); echo $i; for ((j = 0; j < 3; j++)); do printf '%d ' $j; done; echo
