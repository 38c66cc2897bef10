# Five mebibytes through pipes and files, with sums.
head -c 5000000 /dev/zero | tr '\0' 'x' >big; wc -c <big
cat big big | wc -c
md5sum <big
dd if=big of=copy bs=4096 2>/dev/null; cmp big copy && echo same
seq 1 50000 | md5sum
tail -c 10 big; echo
split -b 1000000 big part.; ls part.* | wc -l; cat part.* | cmp - big && echo joined
