# Subshells have their own variables, directories, traps and options.
x=1; (x=2; cd /; echo $x $PWD); echo $x
[ "$PWD" = / ] || echo still here
{ x=3; }; echo $x
(set -e; false; echo never); echo $?
(exit 11); echo $?
( ( (echo deep) ) )
echo start; (exec echo replaced); echo end
