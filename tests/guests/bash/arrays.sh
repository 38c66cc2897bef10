# Arrays and associative arrays.
a=(one two 'three four'); echo "${#a[@]} ${a[2]} ${a[@]:1}"; a+=(five); printf '[%s]' "${a[@]}"; echo
declare -A m=([x]=1 [y]=2); m[z]=3; for k in $(printf '%s\n' "${!m[@]}" | sort); do echo "$k=${m[$k]}"; done
unset 'a[1]'; echo "${!a[@]}"; mapfile -t lines < <(seq 1 5); echo "${lines[3]} ${#lines[@]}"
