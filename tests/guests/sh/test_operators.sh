# test and [: files, strings, numbers.
touch f; mkdir d; ln -s f l; ln -s nowhere dangling; chmod 600 f; printf x >g
for t in '-e f' '-f f' '-d d' '-L l' '-e dangling' '-s f' '-s g' '-r f' '-x f' '-z ""' '-n x' '! -e f'; do
    if eval "[ $t ]"; then echo "$t yes"; else echo "$t no"; fi
done
[ 3 -gt 2 ] && echo gt; [ 3 -le 2 ] || echo not le; [ a != b ] && echo ne
[ f -ef l ] && echo same
[ -p /dev/stdin ] && echo "stdin is a pipe"
[ -t 1 ] || echo "stdout is no terminal"
