# printf in its formats.
printf '%d %5d|%-5d|%05d\n' 1 2 3 4
printf '%s %10s|%-10s|%.2s\n' a b c defg
printf '%x %X %o %c\n' 255 255 8 abc
printf '%b\n' 'a\tb\\n'
printf '%s-%s\n' 1 2 3
printf '%%\n'
printf '\101\x42\n'
printf '%e %.2f %g\n' 1234.5 3.14159 0.0001
