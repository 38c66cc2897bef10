# Environment and arguments through several programs.
env | grep -c ^PATH=
export LONG=$(seq 1 2000 | tr '\n' ,); sh -c 'echo ${#LONG}'
set -- $(seq 1 2000); echo $#; sh -c 'echo $#' sh "$@"
printf '%s\n' "$@" | tail -n 1; /bin/echo "$@" | wc -c
