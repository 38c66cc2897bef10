# Parameter expansion in all forms.
unset u; e=; s=path/to/file.tar.gz
echo "${u-default} ${u:-default} ${e-default} ${e:-default} ${s+set} ${e:+set}"
echo "${s#*/} ${s##*/} ${s%.*} ${s%%.*} ${#s}"
: ${u=assigned}; echo $u
(echo ${nothing?message}) 2>/dev/null || echo "failed $?"
set -- a b c; echo $# $1 ${3} "$@"; shift 2; echo $1
set -- 'x y' z; for i in "$@"; do echo "[$i]"; done; for i in $@; do echo "($i)"; done
IFS=:; p=a:b::c; for i in $p; do echo "<$i>"; done
IFS=' '; echo "$*"
echo "$0" | grep -c . 
