# Functions: arguments, return, recursion, local variables.
fact() { [ $1 -le 1 ] && { echo 1; return; }; echo $(($1 * $(fact $(($1 - 1))))); }
fact 6
args() { echo $# "$@"; shift; echo "$*"; return 42; }
args a 'b c' d; echo $?
v=outer; f() { local v=inner; echo $v; }; f; echo $v
g() { g2() { echo defined inside; }; }; g; g2
h() ( exit 7 ); h; echo $?
deep() { [ $1 -eq 0 ] && return 5; deep $(($1 - 1)); }; deep 50; echo $?
