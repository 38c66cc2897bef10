# ERR, DEBUG, RETURN traps, pipefail, PIPESTATUS, errexit in functions.
set -o pipefail; false | true; echo $?; true | false | true; echo "${PIPESTATUS[@]}"
trap 'echo "error on line $LINENO"' ERR; false; trap - ERR
f() { trap 'echo returning' RETURN; echo in f; }; f; trap - RETURN
trap 'echo exit with $?' EXIT; trap 'echo term' TERM; kill -TERM $BASHPID; (exit 6)
exit 8
