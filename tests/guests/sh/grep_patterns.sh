# grep.
printf 'apple\nbanana\ncherry\napple pie\nAPPLE\n' >f
grep apple f; grep -c apple f; grep -i apple f; grep -v apple f; grep -n an f
grep -E 'ap+le|cherry' f; grep -w apple f; grep -x apple f; grep -o 'an' f; grep -q zzz f; echo $?
grep -r apple . | sort; grep -l apple f; printf 'pie\n' | grep -f - f; grep -A1 banana f; grep -F 'a.p' f; echo $?
seq 1 100000 | grep -c 9
